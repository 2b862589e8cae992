"""Routes through replicas."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from gossamer.peer.pipeline.backlog import Phase
from gossamer.peer.pipeline.candidates import Announcement, Attempts
from gossamer.peer.pipeline.wiring import StageWiring, WiringOptions
from gossamer.protocol.errors import NoReplica
from gossamer.protocol.identity import Identity, PeerId

A, B, C = (Identity(bytes([i]) * 32).peer_id for i in range(3))


def test_microbatches_go_round_in_proportion_to_throughput_and_not_in_bursts() -> None:
    wiring = _wiring({A: 3.0, B: 1.0})

    chosen = [wiring.choose(Phase.FORWARD, 1, 0.0) for _ in range(40)]

    assert Counter(chosen) == {A: 30, B: 10}
    assert all(Counter(chosen[i : i + 4])[B] <= 2 for i in range(37))


def test_a_replica_ten_times_slower_gets_about_a_tenth() -> None:
    # All announce the same; the truth is found out by measuring.
    wiring = _wiring({A: 1.0, B: 1.0, C: 1.0})
    takes_s = {A: 1.0, B: 1.0, C: 10.0}

    counts: Counter[PeerId] = Counter()
    wiring.expect(1e6, 0.0)
    for i in range(1200):
        phase = Phase.FORWARD if i % 2 else Phase.BACKWARD
        peer = wiring.choose(phase, 1, float(i))
        seconds = takes_s[peer] * (2.5 if phase is Phase.BACKWARD else 1.0)
        wiring.succeeded(peer, phase, 1, seconds)
        counts[peer] += i >= 200

    assert wiring.samples_per_s(C) == pytest.approx(0.1, rel=0.1)
    assert counts[C] / counts[A] == pytest.approx(0.1, rel=0.25)
    assert counts[B] / counts[A] == pytest.approx(1.0, rel=0.1)


def test_a_backward_pass_costs_two_and_a_half_forward_passes() -> None:
    wiring = _wiring({A: 1.0, B: 1.0})
    first = wiring.choose(Phase.BACKWARD, 2, 0.0)

    chosen = [wiring.choose(Phase.FORWARD, 1, 0.0) for _ in range(5)]

    assert chosen == [B if first == A else A] * 5


def test_a_replica_that_would_be_back_after_all_that_is_to_come_gets_nothing_and_is_first_in_the_next_step() -> None:
    wiring = _measured({A: 10.0, B: 1.0})

    steps = []
    for begin_s in (0.0, 2.1, 4.2):
        wiring.expect(22.0, begin_s)
        steps.append([wiring.choose(Phase.FORWARD, 1, begin_s + 0.1 * i) for i in range(22)])

    # One pass of B lasts as long as ten of A: among the last ten it would hold up the step.
    assert [Counter(step)[B] for step in steps] == [2, 2, 2]
    assert all(B not in step[-9:] for step in steps)
    assert steps[1][0] == B


def test_a_replica_that_is_always_late_is_tried_once_in_a_while() -> None:
    wiring = _measured({A: 10.0, B: 1.0})

    chosen = []
    for _ in range(200):
        wiring.expect(1.0, 0.0)
        chosen.append(wiring.choose(Phase.FORWARD, 1, 0.0))

    assert 3 <= chosen.count(B) <= 8


def test_queues_of_others_do_not_change_a_replicas_share() -> None:
    wiring = _wiring({A: 1.0, B: 1.0})
    for peer, told_s, round_trip_s in ((A, 0.1, 0.4), (B, 1.0, 1.2)) * 20:
        wiring.succeeded(peer, Phase.FORWARD, 1, round_trip_s, told_s=told_s)

    wiring.expect(1e6, 0.0)
    counts = Counter(wiring.choose(Phase.FORWARD, 1, 0.0) for _ in range(110))

    assert counts == {A: 100, B: 10}


@pytest.mark.parametrize("told_s", [1e-12, 1e-6, float("inf"), float("nan"), -1.0])
def test_a_liar_gets_a_bounded_multiple_of_what_it_delivers(told_s: float) -> None:
    wiring = _wiring({A: 1.0, B: 1.0, C: 1.0})
    for _ in range(20):
        wiring.succeeded(A, Phase.FORWARD, 1, 0.2, told_s=0.1)
        wiring.succeeded(B, Phase.FORWARD, 1, 0.2, told_s=0.1)
        wiring.succeeded(C, Phase.FORWARD, 1, 2.0, told_s=told_s)

    assert wiring.samples_per_s(A) == pytest.approx(10.0)
    assert wiring.samples_per_s(C) <= 4 * 2 * 0.5 + 1e-9
    # And in the end only what round trips allow: it would be back in 2 s, the others with all of the rest in .7 s.
    _send_ten_a_second(wiring)
    wiring.expect(5.0, 0.0)
    assert C not in [wiring.choose(Phase.FORWARD, 1, 0.0) for _ in range(5)]


def test_who_is_overdue_is_overtaken_by_the_fellow_that_answers_soonest_once_all_is_sent() -> None:
    wiring = _measured({A: 10.0, B: 1.0, C: 5.0})
    wiring.expect(1.0, 0.0)
    # B is much slower than A, which says what is long for it; A is compared with itself and C.
    assert wiring.patience_s(B, Phase.FORWARD, 1) == pytest.approx(0.3)
    assert wiring.patience_s(A, Phase.FORWARD, 1) == pytest.approx(0.6)

    assert wiring.sooner(B, Phase.FORWARD, 1, 0.0) is None
    wiring.choose(Phase.FORWARD, 1, 0.0)

    assert wiring.sooner(B, Phase.FORWARD, 1, 0.0) == A
    for _ in range(3):
        wiring.begin(A, Phase.FORWARD, 1)
    assert wiring.sooner(B, Phase.FORWARD, 1, 0.0) == C


def test_nobody_is_overdue_before_two_replicas_are_measured() -> None:
    wiring = _wiring({A: 10.0, B: 1.0})
    assert wiring.patience_s(A, Phase.FORWARD, 1) is None

    for _ in range(3):
        wiring.succeeded(A, Phase.FORWARD, 1, 0.1)

    assert wiring.patience_s(A, Phase.FORWARD, 1) is None
    assert wiring.patience_s(B, Phase.FORWARD, 1) is None


def test_the_average_moves_by_a_tenth() -> None:
    wiring = _wiring({A: 1.0})
    for _ in range(10):
        wiring.succeeded(A, Phase.FORWARD, 4, 0.4)
    assert wiring.samples_per_s(A) == pytest.approx(10.0)

    wiring.succeeded(A, Phase.FORWARD, 4, 2.0)
    assert wiring.samples_per_s(A) == pytest.approx(0.9 * 10 + 0.1 * 2)

    wiring.succeeded(A, Phase.BACKWARD, 4, 2.0)
    assert wiring.samples_per_s(A) == pytest.approx(0.9 * 9.2 + 0.1 * 5)


def test_a_newcomer_enters_at_the_minimum() -> None:
    wiring = _wiring({A: 1.0, B: 1.0})
    for _ in range(1000):
        wiring.choose(Phase.FORWARD, 1, 0.0)

    wiring.update([_announce(A), _announce(B), _announce(C)])

    counts = Counter(wiring.choose(Phase.FORWARD, 1, 0.0) for _ in range(30))
    assert counts == {A: 10, B: 10, C: 10}


def test_who_is_no_longer_announced_gets_nothing() -> None:
    wiring = _wiring({A: 1.0, B: 1.0})

    wiring.update([_announce(B), _announce(A, stage=4)])

    assert {wiring.choose(Phase.FORWARD, 1, 0.0) for _ in range(5)} == {B}


def test_a_timeout_asks_another_replica_and_bans_nobody() -> None:
    wiring, attempts = _wiring({A: 1.0, B: 1.0}), Attempts()
    first = wiring.choose(Phase.FORWARD, 1, 0.0, attempts)

    wiring.timed_out(first, Phase.FORWARD, 1, 20.0, attempts)

    second = wiring.choose(Phase.FORWARD, 1, 20.0, attempts)
    assert second != first
    assert wiring.bans == {}
    assert wiring.samples_per_s(first) == pytest.approx(0.9 + 0.1 / 20)
    # If the other one fails as well, the first is better than nobody.
    wiring.failed(second, "gone", 20.0, attempts)
    assert wiring.choose(Phase.FORWARD, 1, 20.0, attempts) == first


def test_a_slow_replica_is_not_too_late_for_a_microbatch_that_has_failed_with_its_fellow() -> None:
    wiring, attempts = _measured({A: 10.0, B: 1.0}), Attempts()
    wiring.expect(1.0, 0.0)
    assert wiring.choose(Phase.FORWARD, 1, 0.0, attempts) == A

    wiring.timed_out(A, Phase.FORWARD, 1, 1.0, attempts)

    assert wiring.choose(Phase.FORWARD, 1, 1.0, attempts) == B


def test_evaluations_do_not_make_the_end_of_a_step_come_sooner() -> None:
    wiring = _measured({A: 10.0, B: 1.0})
    wiring.expect(20.0, 0.0)

    for _ in range(20):
        wiring.choose(Phase.EVALUATE, 1, 0.0)

    assert wiring.sooner(B, Phase.FORWARD, 1, 0.0) is None


def test_other_failures_ban_with_backoff_and_a_reason() -> None:
    wiring, attempts = _wiring({A: 1.0}), Attempts()
    ends = []
    for now_s in (0.0, 100.0, 200.0):
        wiring.failed(wiring.choose(Phase.FORWARD, 1, now_s), "connection refused", now_s, attempts)
        ends.append(wiring.bans[A].until_s)

    assert ends == [5.0, 110.0, 220.0]
    with pytest.raises(NoReplica, match=r"all 1 replicas of stage 0.*connection refused"):
        wiring.choose(Phase.FORWARD, 1, 201.0)
    assert wiring.next_chance_s(201.0) == 220.0
    assert wiring.choose(Phase.FORWARD, 1, 220.0) == A


def test_a_success_ends_the_backoff() -> None:
    wiring, attempts = _wiring({A: 1.0}), Attempts()
    for now_s in (0.0, 100.0):
        wiring.failed(wiring.choose(Phase.FORWARD, 1, now_s), "gone", now_s, attempts)

    wiring.succeeded(wiring.choose(Phase.FORWARD, 1, 200.0), Phase.FORWARD, 1, 1.0)

    wiring.failed(A, "gone", 300.0, attempts)
    assert wiring.bans[A].until_s == 305.0


def test_a_fresher_announcement_ends_a_ban_and_an_old_one_does_not() -> None:
    wiring = _wiring({A: 1.0, B: 1.0})
    for _ in range(100):
        wiring.choose(Phase.FORWARD, 1, 0.0)
    wiring.failed(A, "restarting", 0.0, Attempts())

    wiring.update([_announce(A), _announce(B)])
    assert {wiring.choose(Phase.FORWARD, 1, 1.0) for _ in range(50)} == {B}
    wiring.update([_announce(A, sequence=2), _announce(B)])

    # It comes back at the minimum and does not make up for what it missed.
    assert Counter(wiring.choose(Phase.FORWARD, 1, 1.0) for _ in range(20)) == {A: 10, B: 10}


def test_the_budget_of_retries_ends() -> None:
    wiring = _wiring({A: 1.0, B: 1.0}, WiringOptions(retries_max=3))
    attempts = Attempts()

    for _ in range(4):
        wiring.timed_out(wiring.choose(Phase.FORWARD, 1, 0.0, attempts), Phase.FORWARD, 1, 1.0, attempts)

    with pytest.raises(NoReplica, match=r"failed 4 times at stage 0, last: .* did not answer within 1 s"):
        wiring.choose(Phase.FORWARD, 1, 0.0, attempts)
    assert wiring.choose(Phase.FORWARD, 1, 0.0, Attempts()) in (A, B)


def test_waiting_for_room_uses_up_no_retries_and_ends_all_the_same() -> None:
    wiring = _wiring({A: 1.0, B: 1.0}, WiringOptions(retries_max=3, crowded_max=20))
    attempts = Attempts()

    for _ in range(20):
        wiring.crowded(wiring.choose(Phase.FORWARD, 1, 0.0, attempts), "32 passes wait here", attempts)
    wiring.timed_out(wiring.choose(Phase.FORWARD, 1, 0.0, attempts), Phase.FORWARD, 1, 1.0, attempts)
    wiring.crowded(wiring.choose(Phase.FORWARD, 1, 0.0, attempts), "32 passes wait here", attempts)

    with pytest.raises(NoReplica, match=r"failed 1 times at stage 0 and found no room 21 times, last: 32 passes"):
        wiring.choose(Phase.FORWARD, 1, 0.0, attempts)


def test_whom_the_leader_gave_up_gets_nothing_until_it_is_believed_again() -> None:
    wiring = _wiring({A: 1.0, B: 1.0})

    wiring.given_up = frozenset({A})
    assert {wiring.choose(Phase.FORWARD, 1, 0.0) for _ in range(10)} == {B}
    wiring.given_up = frozenset({A, B})
    with pytest.raises(NoReplica):
        wiring.choose(Phase.FORWARD, 1, 0.0)
    wiring.given_up = frozenset()

    assert A in {wiring.choose(Phase.FORWARD, 1, 0.0) for _ in range(12)}


def test_without_replicas_there_is_no_route_and_no_date_for_one() -> None:
    wiring = _wiring({})

    with pytest.raises(NoReplica, match="nobody serves stage 0"):
        wiring.choose(Phase.FORWARD, 1, 0.0)

    assert wiring.next_chance_s(0.0) is None


def _wiring(samples_per_s: dict[PeerId, float], options: WiringOptions | None = None) -> StageWiring:
    wiring = StageWiring(0, options or WiringOptions(), random.Random(1))
    wiring.update([_announce(peer, samples_per_s=rate) for peer, rate in samples_per_s.items()])
    return wiring


def _measured(samples_per_s: dict[PeerId, float]) -> StageWiring:
    wiring = _wiring(samples_per_s)
    for peer, rate in samples_per_s.items():
        for _ in range(3):
            wiring.succeeded(peer, Phase.FORWARD, 1, 1 / rate)
    _send_ten_a_second(wiring)
    return wiring


def _send_ten_a_second(wiring: StageWiring) -> None:
    """So many in the last step."""
    wiring.expect(1.0, -0.1)
    wiring.choose(Phase.FORWARD, 1, 0.0)


def _announce(peer: PeerId, *, stage: int = 0, sequence: int = 1, samples_per_s: float = 1.0) -> Announcement:
    return Announcement(peer=peer, stage=stage, sequence=sequence, samples_per_s=samples_per_s)
