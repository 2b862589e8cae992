"""A fingerprint of everything that was delivered in a run."""

from __future__ import annotations

import hashlib
import sys
import zlib
from array import array
from typing import TextIO

_LINES_PER_UPDATE = 1000
_LONG_BYTES, _REMEMBERED = 512, 256


class Trace:
    """SHA-256 over all deliveries in order. Equal seeds give equal traces, whatever the process or its hash seed.

    A payload counts by its length and CRC-32: the trace is to notice that two runs differ, not to resist forgers.
    """

    def __init__(self) -> None:
        self.sink: TextIO | None = None
        """Where to write every delivery: time, sender, receiver, method, bytes, checksum."""
        self._hash = hashlib.sha256()
        self._times_s = array("d")
        self._lines: list[str] = []
        self._checksums: dict[int, tuple[bytes, int]] = {}
        """Of long payloads, by their identity: the same bytes often go to several peers, or come back."""
        self._n_flushed = 0

    @property
    def n_deliveries(self) -> int:
        return self._n_flushed + len(self._lines)

    def record(self, time_s: float, source: str, target: str, method: str, payload: bytes) -> None:
        n_bytes = len(payload)
        checksum = zlib.crc32(payload) if n_bytes < _LONG_BYTES else self._checksum(payload)
        self._times_s.append(time_s)
        self._lines.append(f"{source} {target} {method} {n_bytes} {checksum}\n")
        if len(self._lines) >= _LINES_PER_UPDATE:
            self._flush()

    def _checksum(self, payload: bytes) -> int:
        known = self._checksums.get(id(payload))
        if known is not None and known[0] is payload:
            return known[1]
        if len(self._checksums) >= _REMEMBERED:
            self._checksums.clear()
        checksum = zlib.crc32(payload)
        self._checksums[id(payload)] = payload, checksum
        return checksum

    def hexdigest(self) -> str:
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        """Hash what was recorded: times as little-endian doubles, for digits would take longer than all the rest."""
        if self.sink is not None:
            self.sink.writelines(f"{t!r} {line}" for t, line in zip(self._times_s, self._lines, strict=True))
        if sys.byteorder == "big":
            self._times_s.byteswap()
        self._hash.update(self._times_s)
        self._hash.update("".join(self._lines).encode())
        self._n_flushed += len(self._lines)
        self._times_s = array("d")
        self._lines.clear()
