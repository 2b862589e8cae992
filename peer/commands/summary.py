"""What a swarm's logs say about its run: the figures of `gossamer up --json` and of the report."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..event_kinds import Evaluated, Memory, Resynced, RoundEnded, Started, short_id
from ..events import lives_of, sent_bytes
from .swarm import Child

ROUND_METHODS = ("round/", "group/", "stage/")


def summarise(children: Sequence[Child], *, began_unix_s: float, wall_s: float) -> dict[str, Any]:
    """Everything that the logs tell; who was killed for good has no digest.

    Args:
        began_unix_s: when they were started, the last time if the run was resumed.
        wall_s: since then.
    """
    steady = [child for child in children if child.killed == 0] or list(children)
    # Who only trains of a pipeline contributes no payload, and says nothing of exchanges.
    told = [_rounds(child) for child in steady]
    rounds = next((one for one in told if any(event.payload_bytes for event in one)), told[0])
    started = next(entry.event for entry in steady[0].entries if isinstance(entry.event, Started))
    n_peers, steps = len(children), max(child.step for child in children)
    evaluations = sorted(
        {
            (entry.event.step, entry.event.loss)
            for child in children
            for entry in child.entries
            if isinstance(entry.event, Evaluated) and entry.event.loss is not None
        }
    )
    payloads = [event.payload_bytes for event in rounds if event.payload_bytes]
    return {
        "run_id": started.run_id,
        "task": started.task,
        "method": started.method,
        "n_peers": n_peers,
        "n_params": started.n_params,
        "steps": steps,
        "eval_loss_start": evaluations[0][1] if evaluations else None,
        "eval_loss": evaluations[-1][1] if evaluations else None,
        "wall_s": round(_earlier_s(children, began_unix_s) + wall_s, 3),
        "payload_bytes_per_step": statistics.fmean(payloads) if payloads else 0.0,
        "bytes_sent_per_peer_per_step": statistics.fmean(_round_bytes(child) / max(1, steps) for child in steady),
        "dense_bytes_per_peer_per_step": 2 * (n_peers - 1) / n_peers * 4 * started.n_params,
        "bytes_sent_by_purpose": _by_purpose(children),
        "state_digests": {short_id(child.peer_id): child.ended.digest for child in children if child.ended},
        "rounds_ok": sum(event.outcome == "committed" for event in rounds),
        "rounds_failed": sum(event.outcome == "failed" for event in rounds),
        "round_overhead_s_p50": statistics.median(event.overhead_s for event in rounds) if rounds else None,
        "round_s_p50": statistics.median(event.duration_s for event in rounds) if rounds else None,
        "killed": {str(child.number): child.killed for child in children if child.killed},
        "kill_cost_s": _kill_cost_s(children, rounds),
        "resyncs": sum(isinstance(entry.event, Resynced) for child in children for entry in child.entries),
        "memory_bytes_max": max(
            (entry.event.rss_bytes for child in children for entry in child.entries if isinstance(entry.event, Memory)),
            default=None,
        ),
    }


def _rounds(child: Child) -> list[RoundEnded]:
    return [e.event for e in child.entries if isinstance(e.event, RoundEnded) and e.event.outcome != "unknown"]


def _kill_cost_s(children: Sequence[Child], rounds: Sequence[RoundEnded]) -> float | None:
    """By how much the slowest of the five rounds after a kill exceeded the median round; None without kills."""
    kills = [step for child in children for step in child.killed_at_step]
    after = [event.duration_s for event in rounds for step in kills if step <= event.step <= step + 5]
    if not after:
        return None
    return max(0.0, max(after) - statistics.median(event.duration_s for event in rounds))


def _round_bytes(child: Child) -> float:
    """All that a peer sent for its rounds, protocol included."""
    return float(sum(n for method, n in sent_bytes(child.entries).items() if method.startswith(ROUND_METHODS)))


def _earlier_s(children: Sequence[Child], began_unix_s: float) -> float:
    """For how long any of them ran before this, if the run was resumed."""
    spans = [(life[0].unix_s, life[-1].unix_s) for child in children for life in lives_of(child.entries)]
    total_s, until_s = 0.0, 0.0
    for begun_s, ended_s in sorted(span for span in spans if span[0] < began_unix_s):
        total_s += max(0.0, ended_s - max(begun_s, until_s))
        until_s = max(until_s, ended_s)
    return total_s


def _by_purpose(children: Sequence[Child]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for child in children:
        total.update(sent_bytes(child.entries))
    return dict(sorted(total.items()))
