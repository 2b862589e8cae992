"""The way from one state to another."""

from __future__ import annotations

from gossamer.peer.gateway.history import STEPS_MAX, History, Kept
from gossamer.protocol.edge_pb2 import Step


def state(number: int) -> tuple[int, bytes]:
    return number, bytes([number % 251]) * 32


def step(number: int, n_bytes: int = 100) -> Kept:
    return Kept(
        before=state(number), after=state(number + 1), step=Step(learning_rate=number, payloads=[bytes(n_bytes)])
    )


def history(n: int, *, n_bytes: int = 100, bytes_max: int = 1 << 20) -> History:
    made = History(bytes_max=bytes_max)
    for number in range(n):
        made.add(step(number, n_bytes))
    return made


def rates(steps: object) -> list[float]:
    return [one.learning_rate for one in steps]  # type: ignore[attr-defined]


def test_device_gets_the_updates_that_it_missed() -> None:
    steps = history(5).way(state(2), state(5), snapshot_bytes=10_000)

    assert rates(steps) == [2, 3, 4]


def test_device_that_is_there_gets_nothing() -> None:
    assert history(5).way(state(5), state(5), snapshot_bytes=10_000) == []


def test_unknown_state_needs_a_snapshot() -> None:
    assert history(5).way(None, state(5), snapshot_bytes=10_000) is None
    assert history(5).way((2, bytes(32)), state(5), snapshot_bytes=10_000) is None


def test_way_longer_than_a_snapshot_is_not_sent() -> None:
    assert history(100).way(state(0), state(100), snapshot_bytes=1000) is None
    assert history(100).way(state(99), state(100), snapshot_bytes=1000) is not None


def test_old_updates_are_forgotten_by_number_and_by_bytes() -> None:
    assert history(STEPS_MAX + 5, n_bytes=1).way(state(4), state(STEPS_MAX + 5), snapshot_bytes=1 << 20) is None
    assert history(10, bytes_max=300).way(state(5), state(10), snapshot_bytes=1 << 20) is None


def test_gap_in_the_line_forgets_what_was_before() -> None:
    made = history(5)

    made.add(step(7))

    assert made.way(state(4), state(8), snapshot_bytes=10_000) is None
    assert rates(made.way(state(7), state(8), snapshot_bytes=10_000)) == [7]
