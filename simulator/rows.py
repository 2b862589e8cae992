"""The rows that flows and links are kept in, for compiled code.

Four arrays belong together. `entries[LINKS_MAX * flow + k]` is flow's place in the list of all flows over its k-th
link. Fields whose names end in `_list` have nothing to do with the row they stand in: they are lists that are as long
as there are rows.

Numba keeps machine code beside each file and renews it when that file changes, not when one that it calls does: after a
change here, in `filling` or in `draining`, touch `sharing.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., Any])
Rows = npt.NDArray[Any]

LINKS_MAX: Final = 5
"""Most links of one flow."""

LINK: Final = np.dtype(
    [
        ("bytes_per_s", "f8"),  # 0: stalled; inf: never a bottleneck
        ("contention", "f8"),  # what n flows get together: bytes_per_s / (1 + contention * (n - 1))
        ("first", "i8"),  # entry, or -1
        ("touched", "i8"),
        ("used", "i8"),
        ("spare", "f8"),
        ("waiting", "i8"),
        ("touched_list", "i8"),
        ("used_list", "i8"),
        ("level_list", "f8"),  # with the next, a heap of links by the rate that they could give
        ("level_link_list", "i8"),
    ]
)
FLOW: Final = np.dtype(
    [
        ("rate", "f8"),  # bytes per second that it may have; inf if no link limits it
        ("bottleneck", "i8"),  # link, or -1
        ("left_bytes", "f8"),  # true at since_s; since then it drains at drain_rate
        ("next_bytes", "f8"),  # what it goes on with when they are gone; 0: it ends
        ("drain_rate", "f8"),
        ("since_s", "f8"),
        ("ends_at_s", "f8"),
        ("order", "i8"),  # flows that end at one instant end in the order in which they began
        ("place", "i8"),  # in ends_list, or -1
        ("filled", "i8"),
        ("filled_list", "i8"),
        ("ends_list", "i8"),
        ("ended_list", "i8"),
    ]
)
ENTRY: Final = np.dtype([("link", "i8"), ("next", "i8"), ("previous", "i8")])

N_COUNTS: Final = 4
TOUCHED, ENDS, STAMP, ORDER = range(N_COUNTS)
"""Lengths of the lists; and counters."""


def compiled(function: F) -> F:
    """Nothing is allocated, so nothing needs numba's counting of references, which takes a third of the time."""
    build: Any = numba.njit
    return cast(F, build(cache=True, _nrt=False)(function))
