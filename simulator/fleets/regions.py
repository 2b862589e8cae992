"""Cloud regions: how far apart, and how fast one transfer between them is."""

from __future__ import annotations

from typing import Final

from .fleet import MBIT

ROUND_TRIP_MS: Final = {
    ("us-east", "us-east"): 1.0,
    ("us-east", "us-west"): 62.0,
    ("us-east", "eu-west"): 75.0,
    ("us-east", "eu-central"): 90.0,
    ("us-east", "asia-east"): 165.0,
    ("us-east", "asia-south"): 200.0,
    ("us-west", "us-west"): 1.0,
    ("us-west", "eu-west"): 135.0,
    ("us-west", "eu-central"): 150.0,
    ("us-west", "asia-east"): 105.0,
    ("us-west", "asia-south"): 220.0,
    ("eu-west", "eu-west"): 1.0,
    ("eu-west", "eu-central"): 22.0,
    ("eu-west", "asia-east"): 215.0,
    ("eu-west", "asia-south"): 125.0,
    ("eu-central", "eu-central"): 1.0,
    ("eu-central", "asia-east"): 235.0,
    ("eu-central", "asia-south"): 115.0,
    ("asia-east", "asia-east"): 1.0,
    ("asia-east", "asia-south"): 120.0,
    ("asia-south", "asia-south"): 1.0,
}
"""Round trips between regions in milliseconds; *assumed*: rounded, of the size that clouds' public latency pages show
for Virginia, Oregon, Ireland, Frankfurt, Tokyo and Mumbai. Within a region: *assumed*."""

REGIONS: Final = tuple(sorted({region for pair in ROUND_TRIP_MS for region in pair}))

WINDOW_BYTES: Final = 4e6
"""Of one TCP connection with common kernel settings; *assumed*. It bounds a transfer to WINDOW_BYTES a round trip."""

SPEED_MAX: Final = 5_000 * MBIT
"""Of one flow within a region: 5 Gbit/s, the limit that AWS documents for a single flow outside of placement groups."""


def round_trips_s() -> dict[tuple[str, str], float]:
    return {pair: milliseconds / 1e3 for pair, milliseconds in ROUND_TRIP_MS.items()}


def speeds() -> dict[tuple[str, str], float]:
    """Bytes per second that one transfer gets at most."""
    return {pair: min(SPEED_MAX, WINDOW_BYTES / seconds) for pair, seconds in round_trips_s().items()}
