"""Shamir's secret sharing (1979) of 32-byte secrets over a prime field: any `threshold` shares give the secret back.

Own code, because the kept libraries draw their randomness themselves: here the coefficients come in as an argument, so
that a simulated round can be replayed. Python's integers are not constant-time; secrets live for one round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..errors import BadPayload
from .errors import TooFewContributions

PRIME: Final = 2**256 + 297
"""The smallest prime above 2^256: every 32-byte secret is a field element."""
SHARE_BYTES: Final = 33
SECRET_BYTES: Final = 32


def share_secret(secret: bytes, holders: Sequence[int], coefficients: Sequence[int]) -> dict[int, bytes]:
    """One share for each holder.

    Args:
        secret: 32 bytes.
        holders: distinct numbers >= 0.
        coefficients: threshold - 1 uniformly random field elements, used for this secret only.
    Returns: holder -> 33 bytes.
    """
    polynomial = [int.from_bytes(secret, "little"), *coefficients]
    return {holder: _evaluate(polynomial, holder + 1).to_bytes(SHARE_BYTES, "little") for holder in holders}


def recover_secret(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret from `threshold` shares by Lagrange's interpolation at 0.

    Raises: TooFewContributions if there are fewer; BadPayload if the shares do not belong together.
    """
    if len(shares) < threshold:
        raise TooFewContributions(f"{len(shares)} shares cannot recover a secret that {threshold} are needed for")
    points = [(holder + 1, share_value(shares[holder])) for holder in sorted(shares)[:threshold]]
    secret = sum(value * _weight_at_zero(x, points) for x, value in points) % PRIME
    if secret >= 2 ** (8 * SECRET_BYTES):
        raise BadPayload("the shares do not belong to one 32-byte secret")
    return secret.to_bytes(SECRET_BYTES, "little")


def share_value(share: bytes) -> int:
    """A share as a field element.

    Raises: BadPayload.
    """
    value = int.from_bytes(share, "little")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise BadPayload(f"a share has {SHARE_BYTES} bytes below the field's prime, not {len(share)}")
    return value


def _evaluate(polynomial: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % PRIME
    return value


def _weight_at_zero(x: int, points: Sequence[tuple[int, int]]) -> int:
    numerator = denominator = 1
    for other, _ in points:
        if other != x:
            numerator = numerator * other % PRIME
            denominator = denominator * (other - x) % PRIME
    return numerator * pow(denominator, -1, PRIME) % PRIME
