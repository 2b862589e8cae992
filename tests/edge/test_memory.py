"""What a daemon at rest gives back, and what it must not."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from gossamer.algorithms.forward import Batch, NumpyEngine, initial_weights, mlp
from gossamer.edge.memory import code_segments, give_back

MAPS_TEXT = """\
00400000-00600000 r-xp 00000000 08:01 77 /usr/lib/libcode.so
00600000-00800000 r--p 00200000 08:01 77 /usr/lib/libcode.so
00800000-00a00000 rw-p 00400000 08:01 77 /usr/lib/libcode.so
00a00000-00a01000 r-xp 00000000 08:01 78 /usr/lib/libsmall.so
00b00000-00d00000 rwxp 00000000 00:00 0
00d00000-00f00000 r-xp 00000000 00:00 0 [vdso]
7f0000000000-7f0000300000 r-xp 00001000 08:01 79 /opt/me/a library.so
"""


def test_only_code_that_is_a_files_own_may_go() -> None:
    assert list(code_segments(MAPS_TEXT)) == [(0x400000, 2 << 20), (0x7F0000000000, 3 << 20)]


def test_what_is_needed_again_comes_back() -> None:
    network, rng = mlp(16, 8, 4), np.random.default_rng(0)
    batch = Batch(inputs=rng.standard_normal((4, 16), np.float32), labels=np.arange(4))
    weights = initial_weights(network, rng)
    before = NumpyEngine(network).loss(weights, batch)

    give_back()

    assert NumpyEngine(network).loss(weights, batch) == before


RESIDENT = """
import gossamer.edge.commands.run  # what a device's daemon loads
from pathlib import Path
from gossamer.edge.memory import code_segments, give_back

def resident_kib():
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("Rss:") and inside:
            total += int(line.split()[1])
        elif "-" in line.split(maxsplit=1)[0]:
            inside = bool(list(code_segments(line)))
    return total

before = resident_kib()
give_back()
print(before, resident_kib())
"""


def test_resident_code_shrinks() -> None:
    """In a process of its own: in one that has run for long the system may have taken the code's pages back already."""
    told = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, timeout=60, check=True)

    before, after = map(int, told.stdout.split())
    assert 0 < after < before / 2
