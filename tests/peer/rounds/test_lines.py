"""Who reduces how much, given how fast the lines are."""

from __future__ import annotations

import pytest

from gossamer.peer.rounds.lines import Uplink, shares


def test_lines_that_are_alike_get_equal_parts() -> None:
    assert shares([10.0, 9.0, 11.0, 4.0]) is None
    assert shares([None, None, None]) is None
    assert shares([10.0, 1.0]) is None  # of two, each moves one vector whatever it reduces


def test_much_slower_line_reduces_nothing() -> None:
    # Equal parts: it would move 1.5 vectors at rate 1, the others at rate 10. Its own vector takes as long as 10 / 3.
    assert shares([10.0, 10.0, 1.0, 10.0]) == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3])


def test_all_are_done_at_once() -> None:
    rates = [12.0, 6.0, 6.0, 6.0, 1.9]

    parts = shares(rates)

    assert parts is not None
    assert sum(parts) == pytest.approx(1)
    times = [(1 + (len(rates) - 2) * part) / rate for part, rate in zip(parts, rates, strict=True) if part]
    assert times == pytest.approx([times[0]] * len(times))


def test_unknown_line_counts_as_the_median() -> None:
    assert shares([10.0, None, 10.0, 1.0]) == shares([10.0, 10.0, 10.0, 1.0])


def test_slow_receiver_does_not_make_a_sender_slow() -> None:
    uplink = Uplink()

    uplink.note([4e6, 4e6, 0.1e6])

    assert uplink.bytes_per_s == pytest.approx(12e6)
