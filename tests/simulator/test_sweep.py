"""Work in processes side by side."""

from __future__ import annotations

import os
import signal

import pytest

from gossamer.protocol.errors import GossamerError
from gossamer.simulator.sweep import side_by_side


def doubled(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


@pytest.mark.system
def test_each_item_comes_with_its_own_result() -> None:
    assert sorted(side_by_side(doubled, range(5), jobs=2)) == [(0, 0), (1, 2), (2, 4), (3, 6), (4, 8)]


@pytest.mark.system
def test_a_killed_process_is_an_error_that_says_so() -> None:
    with pytest.raises(GossamerError, match="one of 2 processes side by side was killed"):
        list(side_by_side(doubled, [1, -1, 2], jobs=2))
