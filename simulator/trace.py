"""A fingerprint of everything that was delivered in a run."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterable
from typing import Protocol

from xxhash import xxh3_64_intdigest as checksum

from .messages import Message

__all__ = ["Sink", "Trace", "checksum"]

_LINES_PER_UPDATE = 1000


class Sink(Protocol):
    """Whatever takes lines, such as an open file."""

    def writelines(self, lines: Iterable[str], /) -> object:
        """Keep them."""


class Trace:
    """SHA-256 over all deliveries in order. Equal seeds give equal traces, whatever the process or its hash seed.

    A payload counts by its length and XXH3: the trace is to notice that two runs differ, not to resist forgers.
    """

    def __init__(self) -> None:
        self.sink: Sink | None = None
        """Where to write every delivery: time, sender, receiver, method, bytes, checksum."""
        self._hash = hashlib.sha256()
        self._times_s = array("d")
        self._lines: list[str] = []
        self._n_flushed = self._n_written = 0

    @property
    def n_deliveries(self) -> int:
        return self._n_flushed + len(self._lines)

    def record(self, time_s: float, source: str, target: str, method: str, message: Message) -> None:
        self._times_s.append(time_s)
        self._lines.append(f"{source} {target} {method} {len(message.payload)} {message.checksum}\n")
        if len(self._lines) >= _LINES_PER_UPDATE:
            self._flush()

    def hexdigest(self) -> str:
        """Of all so far; asking changes nothing."""
        self._write()
        so_far = self._hash.copy()
        self._update(so_far)
        return so_far.hexdigest()

    def _flush(self) -> None:
        self._write()
        self._update(self._hash)
        self._n_flushed += len(self._lines)
        self._n_written = 0
        self._times_s = array("d")
        self._lines.clear()

    def _write(self) -> None:
        if self.sink is not None:
            new = slice(self._n_written, None)
            self.sink.writelines(f"{t!r} {line}" for t, line in zip(self._times_s[new], self._lines[new], strict=True))
        self._n_written = len(self._lines)

    def _update(self, digest: hashlib._Hash) -> None:
        """Hash what was recorded: times as little-endian doubles, for digits would take longer than all the rest."""
        times_s = self._times_s
        if sys.byteorder == "big":
            times_s = times_s[:]
            times_s.byteswap()
        digest.update(times_s)
        digest.update("".join(self._lines).encode())
