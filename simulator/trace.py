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
        self._n_flushed = 0

    @property
    def n_deliveries(self) -> int:
        return self._n_flushed + len(self._lines)

    def record(self, time_s: float, source: str, target: str, method: str, message: Message) -> None:
        self._times_s.append(time_s)
        self._lines.append(f"{source} {target} {method} {len(message.payload)} {message.checksum}\n")
        if len(self._lines) >= _LINES_PER_UPDATE:
            self._flush()

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
