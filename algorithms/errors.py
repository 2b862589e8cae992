"""What methods refuse. All are ValueErrors: a bad value came in, and nothing was changed."""

from __future__ import annotations


class NoSuchMethod(ValueError):
    """No method of this name; the message names the nearest."""


class BadGradient(ValueError):
    """A gradient that is not finite, or too large to be averaged with others."""


class BadVector(ValueError):
    """A vector that a codec cannot hold: NaN or infinity."""


class BadPayload(ValueError):
    """A payload that no honest replica with the same parameters and options could have sent."""


class BadPart(BadPayload):
    """A contributor's part of a vector is of no use."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position
        """Of the contributor among those whose parts were to be reduced."""


class TooFewContributions(ValueError):
    """The committed contributions do not determine an update; nothing was changed."""
