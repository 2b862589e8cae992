"""The three tables of the integer cross-entropy, made in exact decimal arithmetic: equal on every machine.

T1[i] = floor(2^20 e^(-i/16) + 1/2), 256 entries;  T2[i] = floor(2^20 e^(-i/4096) + 1/2), 256 entries
LN[i] = floor(2^16 ln(1 + i/1024) + 1/2), 1025 entries
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

LN_2: Final = 45_426
"""ln 2 in Q16."""
SHA256: Final = "b5ded1f4d682b0b4202f8bfe746c206d559d0f6b239924d2dd6cdc1bad59d8f0"
"""Of T1 | T2 | LN | 45426 as little-endian int32."""

_EXACT: Final = Context(prec=40)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """int64 arrays."""

    coarse: I64
    """T1: e^-x in steps of 1/16, Q20."""
    fine: I64
    """T2: e^-x in steps of 1/4096, Q20."""
    logarithm: I64
    """LN: ln(1 + x) in steps of 1/1024, Q16."""

    def digest(self) -> str:
        """SHA-256 (hex) of all entries; equals SHA256."""
        entries = np.concatenate([self.coarse, self.fine, self.logarithm, [LN_2]])
        return hashlib.sha256(entries.astype("<i4").tobytes()).hexdigest()


@functools.cache
def tables() -> Tables:
    """The tables, computed when they are first needed (some milliseconds)."""
    return Tables(
        coarse=_column([_exponential(i, Decimal("0.0625")) for i in range(256)]),
        fine=_column([_exponential(i, Decimal("0.000244140625")) for i in range(256)]),
        logarithm=_column([_logarithm(i) for i in range(1025)]),
    )


def _exponential(i: int, step: Decimal) -> int:
    return _rounded(_EXACT.multiply(2**20, _EXACT.exp(_EXACT.multiply(-i, step))))


def _logarithm(i: int) -> int:
    one_plus = _EXACT.multiply(1024 + i, Decimal("0.0009765625"))
    return _rounded(_EXACT.multiply(2**16, _EXACT.ln(one_plus)))


def _rounded(value: Decimal) -> int:
    return int(_EXACT.add(value, Decimal("0.5")).to_integral_value(rounding=ROUND_FLOOR))


def _column(entries: list[int]) -> I64:
    column = np.array(entries, np.int64)
    column.setflags(write=False)
    return column
