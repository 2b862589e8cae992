"""Why a task cannot be built. All are ValueErrors with a one-line message that names the remedy."""

from __future__ import annotations


class TaskError(ValueError):
    """Root of what `build_task` raises, besides the option errors of `algorithms`."""


class UnknownTask(TaskError):
    """No task of this name; the message names the nearest, or says why a user's own could not be imported."""


class MissingData(TaskError):
    """The task's data are not on this machine; the message says how to get them."""


class BadData(TaskError):
    """The data are there and cannot be used."""


class CannotCut(TaskError):
    """The model cannot be cut into these stages; the message says what is in the way."""
