"""A process that keeps what it frees is not given cleared pages again and again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PIECES = """
import resource
from gossamer.peer.freed_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        pieces = [bytearray(1 << 20) for _ in range(8)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library frees memory in its own way")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", PIECES], capture_output=True, text=True, timeout=50, check=True)

    given_back, kept = map(int, done.stdout.split())
    assert given_back > 20 * 1000  # 8 MB in pages of 4 kB, in each of 20 turns
    assert kept < given_back / 20
