"""What a process has taken is its own."""

from __future__ import annotations

import subprocess
import sys

from gossamer.peer.peak_memory import peak_memory_bytes

PRINT = "from gossamer.peer.peak_memory import peak_memory_bytes; print(peak_memory_bytes())"


def test_a_process_does_not_begin_with_what_the_one_that_started_it_has_taken() -> None:
    taken = bytearray(200 << 20)

    told = subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, timeout=60, check=True).stdout

    assert 1 << 20 < int(told) < 100 << 20
    assert peak_memory_bytes() > len(taken)
