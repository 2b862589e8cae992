"""A fingerprint of everything that was delivered in a run."""

from __future__ import annotations

import hashlib
import zlib
from typing import TextIO

_LINES_PER_UPDATE = 1000


class Trace:
    """SHA-256 over all deliveries in order. Equal seeds give equal traces, whatever the process or its hash seed.

    A payload counts by its length and CRC-32: the trace is to notice that two runs differ, not to resist forgers.
    """

    def __init__(self) -> None:
        self.sink: TextIO | None = None
        """Where to write every delivery: time, sender, receiver, method, bytes, checksum."""
        self._hash = hashlib.sha256()
        self._lines: list[str] = []
        self._payload = b""
        self._checksum = 0
        self.n_deliveries = 0

    def record(self, time_s: float, source: str, target: str, method: str, payload: bytes) -> None:
        if payload is not self._payload:  # the same bytes often go to several peers in a row
            self._payload, self._checksum = payload, zlib.crc32(payload)
        self._lines.append(f"{time_s!r} {source} {target} {method} {len(payload)} {self._checksum}\n")
        self.n_deliveries += 1
        if len(self._lines) >= _LINES_PER_UPDATE:
            self._flush()

    def hexdigest(self) -> str:
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        text = "".join(self._lines)
        self._hash.update(text.encode())
        if self.sink is not None:
            self.sink.write(text)
        self._lines.clear()
