"""The folder of a simulated daemon: on the real disk, but for what only people look at while a daemon runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..peer.folder import PeerFolder


class SimulatedFolder(PeerFolder):
    """Keeps the newest `status.json` in memory: an hour of a thousand daemons writes some hundred thousand."""

    status: Mapping[str, Any] | None = None
    """As it was written last; None: never."""

    def write_status(self, status: Mapping[str, Any]) -> None:
        self.status = status
