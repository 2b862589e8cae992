"""Aggregates that a minority of arbitrary contributions cannot own: one rule a file."""

from .choice import DENSE_RULES, build_rule
from .rule import Aggregated, Rule

__all__ = ["DENSE_RULES", "Aggregated", "Rule", "build_rule"]
