"""Work in processes side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gossamer.protocol.errors import GossamerError
from gossamer.simulator.side_by_side import side_by_side


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


@pytest.mark.system
def test_ctrl_c_while_processes_are_starting_ends_them_without_a_word() -> None:
    script = """if __name__ == "__main__":
        import time
        from gossamer.simulator.side_by_side import side_by_side
        try:
            list(side_by_side(time.sleep, [300.0] * 9, jobs=2))
        except KeyboardInterrupt:
            print("interrupted")
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=-1, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        children, limit_s = Path(f"/proc/{parent.pid}/task/{parent.pid}/children"), time.monotonic() + 60
        while b"spawn_main" not in b"".join(_command(int(child)) for child in children.read_text().split()):
            assert parent.poll() is None, parent.communicate()
            assert time.monotonic() < limit_s, "no process was started"
        os.killpg(parent.pid, signal.SIGINT)
        told, _ = parent.communicate(timeout=60)
    finally:
        parent.kill()
    assert told == "interrupted\n"


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""
