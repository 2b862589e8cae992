"""What this peer tells of a round that it has applied: who, how much, how long, and what was left out and why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .ledger import Committed
from .outcome import Outcome

if TYPE_CHECKING:
    from ..replica import Applied
    from .group import Group
    from .round import Round


def outcome_of(
    group: Group,
    committed: Committed,
    applied: Applied | None,
    round_: Round | None,
    *,
    collected_s: float,
    n_steps: int,
) -> Outcome:
    """Of the round that the group is still in.

    Args:
        applied: None if it failed.
        round_: None if this peer did not take part and followed from outside.
        collected_s: when all that was decided was here, in loop time.
        n_steps: local steps behind its contributions.
    """
    decision, roster = committed.decision, committed.roster
    now = asyncio.get_running_loop().time()
    decided_s = round_.decided_s if round_ is not None and round_.decided_s is not None else now
    arrived_s = (round_.transfer.last_arrival_s() if round_ is not None else None) or decided_s
    offered = round_.transfer.offered if round_ is not None else None
    leaders = roster.leaders(group.lineage, group.index)
    leader = leaders[committed.certificate.ballot % len(leaders)]
    contributors = tuple(roster.members[slot].peer for slot in decision.contributors)
    return Outcome(
        round_index=group.index,
        step=group.replica.step,
        steps=n_steps if applied is not None else 0,
        committed=applied is not None,
        goes_on=bool(decision.turns),
        contributors=contributors if applied is not None or decision.turns else (),
        excluded={roster.members[slot].peer: reason for slot, reason in decision.excluded},
        dropped=tuple(contributors[index] for index in applied.dropped) if applied is not None else (),
        payload_bytes=offered.length if offered is not None else 0,
        duration_s=now - round_.started_s if round_ is not None else 0.0,
        overhead_s=max(0.0, decided_s - arrived_s),
        exchange_s=collected_s - round_.offered_s if round_ is not None and round_.offered_s is not None else 0.0,
        update_s=now - collected_s,
        ballots=committed.certificate.ballot + 1,
        leader=roster.members[leader].peer,
        digest=group.digest,
        restored=decision.restored,
    )
