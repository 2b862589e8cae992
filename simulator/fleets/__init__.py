"""Simulated populations of machines: their processors, lines, regions and lifetimes."""

from .fleet import Fleet, Machine, Session
from .registry import FLEETS, build_fleet
from .traces import read_trace

__all__ = ["FLEETS", "Fleet", "Machine", "Session", "build_fleet", "read_trace"]
