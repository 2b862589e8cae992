"""How a simulated run fails to get on."""

from __future__ import annotations


class Deadlock(RuntimeError):
    """Every task waits for something that can no longer happen."""


class OutOfTime(RuntimeError):
    """The run was not over when its virtual time was."""


class Livelock(RuntimeError):
    """The loop is busy, but virtual time stands still."""
