"""Arithmetic takes the same memory again and again: this process keeps what it has freed.

glibc gives large pieces back to the kernel as they are freed, which clears them before it hands them out again. Steps
of a small model spend up to a third of their time on that (`python -m benchmarks.freed_memory`).
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
_KEPT_BYTES = 64 << 20
"""So much may lie unused at the end of a heap."""
_PIECE_BYTES = 32 << 20
"""Larger pieces go back at once: the most that glibc takes. It would find its own way there, but only as far as the
largest piece that was freed yet, and it stops looking once the other of the two is set."""


def keep_freed_memory() -> None:
    """For the rest of this process. Does nothing where the C library is another one."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _PIECE_BYTES)
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
