"""What is still to be sent."""

from __future__ import annotations

import math

import pytest

from gossamer.peer.pipeline.outlook import Outlook


def test_the_rest_takes_as_long_as_in_the_steps_before() -> None:
    outlook = Outlook(0.1)
    outlook.begin(10.0, 100.0)
    assert outlook.rest_s(1.0) == math.inf

    for i in range(10):
        outlook.sent(1.0, 100.0 + 0.5 * (i + 1))
    outlook.begin(10.0, 200.0)

    assert outlook.rest_s(1.0) == pytest.approx(4.5)
    outlook.sent(4.0, 201.0)
    assert outlook.rest_s(1.0) == pytest.approx(2.5)
    outlook.sent(6.0, 206.0)
    outlook.begin(10.0, 300.0)
    # .6 s a sample in the last step, .5 s before.
    assert outlook.rest_s(0.0) == pytest.approx(10 * (0.9 * 0.5 + 0.1 * 0.6))


def test_what_nobody_expected_changes_nothing() -> None:
    outlook = Outlook(0.1)

    outlook.sent(3.0, 1.0)

    assert outlook.to_come == 0
    assert outlook.rest_s(1.0) == math.inf
