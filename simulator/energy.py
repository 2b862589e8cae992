"""A proxy for what training costs a device's battery: computing, bytes, and how often its radio is woken.

The radio's part is the LTE model of Huang et al. 2012 ("A Close Examination of Performance and Power Characteristics of
4G LTE Networks", MobiSys, table 3 and section 5): a fixed cost for each burst, since the radio stays awake for a tail
after the last byte, and a cost for each bit. It compares ways to train; it does not predict a phone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PROMOTION_J: Final = 0.260 * 1.2107
"""260 ms at 1,210.7 mW, to get a connection from the cell."""
TAIL_S: Final = 11.576
"""The radio sleeps so long after the last byte."""
TAIL_J: Final = TAIL_S * 1.060
UP_J_PER_BYTE: Final = 8 * 0.43839e-6
"""438.39 mW for each Mbit/s."""
DOWN_J_PER_BYTE: Final = 8 * 0.05197e-6
"""51.97 mW for each Mbit/s."""
COMPUTE_W: Final = 2.0
"""One busy core of a phone; *assumed*."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Joules of one device, by what they went into."""

    compute_j: float
    bytes_j: float
    wakeups_j: float

    @property
    def total_j(self) -> float:
        return self.compute_j + self.bytes_j + self.wakeups_j


def energy_of(*, busy_s: float, up_bytes: float, down_bytes: float, bursts: float) -> Energy:
    """Args: bursts: times that the radio was woken; what follows within TAIL_S belongs to the same burst."""
    return Energy(
        compute_j=COMPUTE_W * busy_s,
        bytes_j=UP_J_PER_BYTE * up_bytes + DOWN_J_PER_BYTE * down_bytes,
        wakeups_j=(PROMOTION_J + TAIL_J) * bursts,
    )
