"""Who can be dialled: machines behind network address translators, holes in them, and relays."""

from __future__ import annotations

import enum

from .draws import Draws, seed_of

PUNCH_SUCCESS = 0.7
"""Share of pairs behind cone NATs that come to a direct connection by hole punching: 70 % +- 7.1 % of 4.4 million
attempts (Trautwein et al. 2025, arXiv:2510.27500, for libp2p's DCUtR)."""

PUNCH_ROUND_TRIPS = 2.5
"""Over the relay, before a punched connection stands: CONNECT there and back, then SYNC (libp2p's DCUtR), then the
handshake; *assumed* to be one round trip and a half more than a plain dial."""


class Nat(enum.Enum):
    """What stands between a machine and the internet."""

    OPEN = "open"
    """Can be dialled by anybody."""
    CONE = "cone"
    """Cannot be dialled, but two of them may punch a hole."""
    SYMMETRIC = "symmetric"
    """Cannot be dialled and no hole can be punched: another port for every destination."""


class Reach(enum.Enum):
    """How two machines are connected."""

    DIRECT = "direct"
    """One dials the other; it does not matter which, since either may speak over a connection that stands."""
    PUNCHED = "punched"
    """Directly, after hole punching."""
    RELAYED = "relayed"
    """All bytes go through a third machine."""


def reach(seed: int, a: str, nat_a: Nat, b: str, nat_b: Nat) -> Reach:
    """How this pair is connected; the same in both directions and each time."""
    if nat_a is Nat.OPEN or nat_b is Nat.OPEN or a == b:
        return Reach.DIRECT
    if Nat.SYMMETRIC in (nat_a, nat_b):
        return Reach.RELAYED
    first, second = sorted((a, b))
    lucky = Draws(seed_of("punch", seed, first, second)).random() < PUNCH_SUCCESS
    return Reach.PUNCHED if lucky else Reach.RELAYED
