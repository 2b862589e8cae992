"""Memory that a daemon at rest gives back to the system: what was freed, and code that only its start needed.

Some 25 MB of an idle daemon are pages of libraries' code that were read once, to import, to connect, to prove who we
are. They are clean: without our mappings the kernel still has them in its cache as long as there is room, and drops
them first when there is none. What is needed again comes back from there, page by page, in microseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MADV_DONTNEED: Final = 4
"""Linux, all architectures."""
SEGMENT_BYTES_MIN: Final = 1 << 20
"""Smaller ones are not worth a call."""
MAPS: Final = Path("/proc/self/maps")


def give_back() -> None:
    """Do so, as far as the system has the means: glibc's malloc_trim, Linux's madvise."""
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):
        libc.malloc_trim(0)
    with contextlib.suppress(AttributeError, OSError):
        advise = libc.madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start, length in list(code_segments(MAPS.read_text())):
            advise(start, length, MADV_DONTNEED)


def code_segments(maps: str) -> Iterator[tuple[int, int]]:
    """(address, bytes) of the mappings that hold nothing but a file's own bytes: executable, and never written to.

    Args:
        maps: as in /proc/self/maps.
    """
    for line in maps.splitlines():
        span, permissions, _, _, inode, *path = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in span.split("-"))
        # Data and relocated tables are private copies: they would be lost.
        if permissions == "r-xp" and inode != "0" and path and end - start >= SEGMENT_BYTES_MIN:
            yield start, end - start
