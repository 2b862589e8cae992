"""What a device is doing, and why: kept for its status file, which is written once a second at most."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Literal

from ..protocol.errors import StateError
from .folder import DeviceFolder

State = Literal["starting", "connecting", "waiting", "measuring", "resting", "refused", "finished"]
WELL = ("waiting", "measuring", "finished")
HELD_UP = ("connecting", "resting", "refused")
STATUS_EVERY_S = 1.0


class Diary:
    """The present state of one device.

    Args:
        status: what the file is to hold.
        on_idle: called whenever there is nothing to do any more.
        tell: called with a line for the owner whenever something keeps it from working, and when that is over.
    """

    def __init__(
        self,
        folder: DeviceFolder,
        *,
        status: Callable[[], dict[str, Any]],
        on_idle: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.state: State = "starting"
        self.why = ""
        """The last thing that went wrong, or the rule that forbids work."""
        self.counts = {"rounds_counted": 0, "rounds_late": 0, "rounds_refused": 0, "rounds_abandoned": 0}
        self._folder, self._status, self._on_idle, self._tell = folder, status, on_idle, tell
        self._told = ""
        self._written_s = float("-inf")

    def note(self, state: State, why: str = "", *, at_once: bool = False) -> None:
        changed = state != self.state
        self.state, self.why = state, why or ("" if state in WELL else self.why)
        if changed and state == "waiting":
            self._on_idle()
        self._tell_owner()
        now_s = asyncio.get_running_loop().time()
        if at_once or (changed and state in HELD_UP) or now_s - self._written_s > STATUS_EVERY_S:
            self._written_s = now_s
            with contextlib.suppress(StateError):  # a full disk is survived
                self._folder.write_status(self._status())

    def _tell_owner(self) -> None:
        if self.state in HELD_UP:
            line = f"{self.state}: {self.why}" if self.why else self.state
        elif self._told and self.state == "waiting":
            line = ""
        else:
            return
        if line != self._told:
            self._told = line
            self._tell(line or "at work")
