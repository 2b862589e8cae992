"""What forward-only training refuses. All are ValueErrors: a bad value came in, and nothing was changed."""

from __future__ import annotations

from ..errors import BadPayload, TooFewContributions

__all__ = ["BadCoordinate", "BadNetwork", "BadPayload", "BadPlan", "TooFewContributions"]


class BadNetwork(ValueError):
    """A network description that cannot be built, or weights and samples that do not fit it."""


class BadCoordinate(ValueError):
    """A round, slot, perturbation number or length outside the bounds of the perturbation stream."""


class BadPlan(ValueError):
    """Fixed-point constants that could overflow, or weights outside the fixed-point range."""
