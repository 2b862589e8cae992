"""How many contributions the leader of a round waits for."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from gossamer.peer.rounds.backup import EXPLORE_EVERY, Backup, Quota
from gossamer.peer.rounds.place import Rules
from gossamer.protocol.identity import PeerId

PEERS = tuple(PeerId(name) for name in "abcde")


def _backup(kind: Literal["none", "fixed", "dynamic"], n_backup: int = 0) -> Backup:
    return Backup(Rules(payload_bytes_max=1000, backup=kind, n_backup=n_backup))


def _taught(slow_s: float = 10.0) -> Backup:
    """Has seen one round with peers that take 1 s, but for the last one, and half a second after that."""
    backup = _backup("dynamic")
    _see(backup, dict(zip(PEERS, [1.0, 1.0, 1.0, 1.0, slow_s], strict=True)))
    return backup


def _see(backup: Backup, arrived_s: dict[PeerId, float], n_steps: int = 1) -> None:
    last_s = max(arrived_s.values())
    contributors = list(arrived_s)
    backup.saw(PEERS, arrived_s, contributors, waited_s=last_s + 0.1, duration_s=last_s + 0.5, n_steps=n_steps)


def test_without_backup_no_number_is_enough() -> None:
    assert not _backup("none").quota(1, PEERS, 1, math.inf).met(5, 1e6)


def test_fixed_backup_does_without_so_many() -> None:
    assert _backup("fixed", 2).quota(1, PEERS, 1, math.inf) == Quota(wanted=3)


def test_never_fewer_than_make_a_round_count() -> None:
    assert _backup("fixed", 4).quota(1, PEERS, 1, math.inf).wanted == 3


def test_a_straggler_that_lost_its_place_is_the_one_that_is_done_without() -> None:
    backup = _backup("fixed", 1)
    backup.quota(1, PEERS, 1, math.inf)

    assert backup.quota(2, PEERS[:4], 1, math.inf).wanted == 4
    assert [backup.quota(3 + i, PEERS[:4], 1, math.inf).wanted for i in range(40)][-1] == 3


def test_dynamic_backup_waits_for_everybody_until_it_has_seen_a_round() -> None:
    assert _backup("dynamic").quota(1, PEERS, 1, math.inf).wanted == 6


def test_dynamic_backup_does_without_a_slow_peer() -> None:
    assert _taught().quota(1, PEERS, 1, math.inf) == Quota(wanted=4)


def test_dynamic_backup_keeps_one_that_is_hardly_slower() -> None:
    assert _taught(slow_s=1.2).quota(1, PEERS, 1, math.inf).wanted == 5


def test_times_count_by_local_step() -> None:
    backup = _backup("dynamic")
    _see(backup, dict(zip(PEERS, [2.0, 2.0, 2.0, 2.0, 2.6], strict=True)), n_steps=2)

    # With half a second after the steps: 4 in 1.5 s against 5 in 1.8 s, and 4 in 8.5 s against 5 in 10.9 s.
    assert backup.quota(1, PEERS, 1, math.inf).wanted == 5
    assert backup.quota(1, PEERS, 8, math.inf).wanted == 4


def test_now_and_then_a_round_waits_as_long_as_could_pay() -> None:
    quota = _taught().quota(EXPLORE_EVERY, PEERS, 1, math.inf)

    # 4 contributions take 1.5 s, so 5 would have to come within 1.875 s, of which half a second is not waiting.
    assert quota.wanted == 4
    assert quota.not_before_s == pytest.approx(1.375)
    assert not quota.met(4, 1.3)
    assert quota.met(4, 1.4)


def test_a_round_whose_contributions_were_not_seen_teaches_nothing() -> None:
    backup = _backup("dynamic")

    backup.saw(PEERS, {PEERS[0]: 1.0}, PEERS, waited_s=2.0, duration_s=2.0, n_steps=1)
    backup.saw(PEERS, {PEERS[0]: 1.0}, (), waited_s=2.0, duration_s=2.0, n_steps=1)

    assert backup.quota(1, PEERS, 1, math.inf).wanted == 6
