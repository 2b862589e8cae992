from __future__ import annotations

import pytest

from gossamer.peer.report import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (9_999, "9,999"), (23_400, "23.4 k"), (1_031_168, "1.03 M"), (124e6, "124 M"), (7e9, "7.00 G")],
)
def test_counts(value: float, text: str) -> None:
    assert wording.count(value) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (62_600, "62.6 kB"), (6_187_008, "6.19 MB"), (312e6, "312 MB"), (2e12, "2.00 TB")],
)
def test_sizes(n_bytes: float, text: str) -> None:
    assert wording.size(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 ms"),
        (0.0021, "2.10 ms"),
        (0.0421, "42 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (112, "1 min 52 s"),
        (7_385, "2 h 3 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_ratios_plurals_and_losses() -> None:
    assert [wording.ratio(value) for value in (1.04, 9.96, 98.8, 1234.5)] == ["1.0", "10.0", "99", "1,234"]
    assert [wording.plural(n, "round") for n in (0, 1, 2000)] == ["0 rounds", "1 round", "2,000 rounds"]
    assert [wording.loss(value) for value in (2.3361, None)] == ["2.336", "not finite"]
