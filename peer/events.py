"""A daemon's log of events: one JSON object a line, the same schema for machines, the live display and the report.

    {"v": 1, "t_s": 12.5, "unix_s": 1767225612.5, "peer": "Xb3kQ9fT", "kind": "evaluated", "step": 50, "loss": 2.99}

Lines are appended whole. A process that is killed may leave half a line at the end: readers pass over it, and the next
incarnation cuts it off before it appends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..protocol.errors import DiskFull, StateError
from .event_kinds import (
    KINDS,
    Checkpointed,
    Ended,
    Evaluated,
    Event,
    Forked,
    Joined,
    Left,
    Memory,
    PeerRefused,
    PrivacySpent,
    Resynced,
    RoundEnded,
    Sampled,
    Started,
    Traffic,
    Trained,
    Warned,
    short_id,
)

__all__ = [
    "KINDS", "Checkpointed", "Ended", "Entry", "Evaluated", "Event", "EventLog", "Forked", "Joined", "Left", "Memory",
    "PeerRefused", "PrivacySpent", "Resynced", "RoundEnded", "Sampled", "Started", "Traffic", "Trained", "Warned",
    "lives_of", "read_events", "sent_bytes", "short_id",
]  # fmt: skip

_VERSION = 1
_ENVELOPE = ("v", "t_s", "unix_s", "peer", "kind")
_LINE_BYTES_MAX = 4 << 20
_TEXT_CHARS_MAX = 10_000
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ADAPTERS: dict[str, TypeAdapter[Any]] = {kind: TypeAdapter(cls) for kind, cls in KINDS.items()}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An event, and who told it when."""

    t_s: float
    """Seconds since the start of the daemon's incarnation."""
    unix_s: float
    """Wall clock of the peer's machine."""
    peer: str
    """Short id."""
    event: Event


class EventLog:
    """Appends events to a file and tells them to listeners. Used from one thread.

    A full disk does not stop the daemon: listeners are warned once, events that find no room are lost, and the file
    says how many as soon as there is room again.
    """

    def __init__(self, path: Path, *, peer: str, clock: Callable[[], float], unix: Callable[[], float]) -> None:
        """Open the log, made if missing.

        Args:
            peer: this daemon's peer id.
            clock: seconds on the running loop's clock.
            unix: wall clock, for people and for lining up the logs of several machines.
        Raises: StateError, DiskFull.
        """
        self.path = path
        self._peer = short_id(peer)
        self._clock, self._unix = clock, unix
        self.start_s = clock()
        """On that clock."""
        self.has_told = False
        """Whether there was any event so far."""
        self._listeners: list[Callable[[Entry], None]] = []
        self._n_lost = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            _cut_torn_line(path)
        except OSError as error:
            kind = DiskFull if error.errno in _NO_ROOM else StateError
            raise kind(f"cannot write the log {path}: {error.strerror}; name another folder with --dir") from None

    def listen(self, listener: Callable[[Entry], None]) -> None:
        """Have every later event told to `listener` as well, at once and in order."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Write an event and tell the listeners. Never fails for want of room."""
        entry, self.has_told = self._entry(event), True
        if self._n_lost:
            note = self._entry(Warned(message=f"{self._n_lost} events are missing here: there was no room on the disk"))
            if self._append(note) is None:
                self._n_lost = 0
        failure = self._append(entry)
        self._tell(entry)
        if failure is not None:
            self._lose(failure)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _entry(self, event: Event) -> Entry:
        return Entry(t_s=self._clock() - self.start_s, unix_s=self._unix(), peer=self._peer, event=event)

    def _append(self, entry: Entry) -> OSError | None:
        """Write one line, wholly or not at all; the reason if not at all."""
        line = encode(entry)
        end = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            return error
        return None

    def _lose(self, failure: OSError) -> None:
        self._n_lost += 1
        if self._n_lost == 1:
            message = f"cannot write the log {self.path}: {failure.strerror}; the run goes on, make room on that disk"
            self._tell(self._entry(Warned(message=message)))

    def _tell(self, entry: Entry) -> None:
        for listener in self._listeners:
            listener(entry)


def encode(entry: Entry) -> bytes:
    """An entry's line. Floats that are not finite become null, over-long texts are cut."""
    envelope = {"v": _VERSION, "t_s": round(entry.t_s, 6), "unix_s": round(entry.unix_s, 6), "peer": entry.peer}
    told = {one.name: _plain(getattr(entry.event, one.name)) for one in fields(entry.event)}
    return json.dumps({**envelope, "kind": entry.event.kind, **told}, separators=(",", ":")).encode() + b"\n"


def read_events(path: Path) -> list[Entry]:
    """All entries of a log, in order; half a line at the end is passed over. Raises StateError."""
    try:
        with path.open("rb") as file:
            return list(_decode_lines(path, file))
    except OSError as error:
        raise StateError(f"cannot read the log {path}: {error.strerror}; check the run's folder") from None


def lives_of(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries of each incarnation, in order, at least one of each: a log goes on over all of them."""
    lives: list[list[Entry]] = []
    for entry in entries:
        if isinstance(entry.event, Started) or not lives:
            lives.append([])
        lives[-1].append(entry)
    return lives


def sent_bytes(entries: Sequence[Entry]) -> Counter[str]:
    """By method, in all lives, as far as the daemon lived to tell: each counts from 0."""
    total: Counter[str] = Counter()
    for life in lives_of(entries):
        total.update(next((entry.event.sent for entry in reversed(life) if isinstance(entry.event, Traffic)), {}))
    return total


def _decode_lines(path: Path, lines: Any) -> Iterator[Entry]:
    number = 0
    while line := lines.readline(_LINE_BYTES_MAX):
        number += 1
        if line.endswith(b"\n"):
            yield _decode(line, place=f"{path}, line {number}")
        elif len(line) == _LINE_BYTES_MAX:
            raise StateError(f"{path}, line {number} is longer than any event: this is no event log, move it away")


def _decode(line: bytes, *, place: str) -> Entry:
    try:
        raw = json.loads(line, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise _unreadable(place, "it is not JSON") from None
    if not isinstance(raw, dict) or raw.get("v") != _VERSION:
        raise _unreadable(place, f"it is not an event of version {_VERSION}")
    cls = KINDS.get(str(raw.get("kind")))
    if cls is None:
        raise _unreadable(place, f"there is no kind {str(raw.get('kind'))[:40]!r}")
    unknown = sorted(raw.keys() - {*_ENVELOPE, *(one.name for one in fields(cls))})
    if unknown:
        raise _unreadable(place, f"{cls.kind} has no field {unknown[0][:40]!r}")
    return _entry_of(raw, cls, place)


def _entry_of(raw: dict[str, Any], cls: type[Event], place: str) -> Entry:
    told = {key: value for key, value in raw.items() if key not in _ENVELOPE}
    try:
        event: Event = _ADAPTERS[cls.kind].validate_python(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:60]
        raise _unreadable(place, f"{cls.kind}: {where}: {first['msg'].lower()}") from None
    t_s, unix_s, peer = raw.get("t_s"), raw.get("unix_s"), raw.get("peer")
    if not isinstance(t_s, int | float) or not isinstance(unix_s, int | float) or not isinstance(peer, str):
        raise _unreadable(place, "it does not say who told it when")
    return Entry(t_s=float(t_s), unix_s=float(unix_s), peer=peer, event=event)


def _unreadable(place: str, reason: str) -> StateError:
    return StateError(f"{place} cannot be read: {reason}; it was damaged or written by another version")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _plain(value: Any) -> Any:
    """The same value as JSON can say it."""
    if isinstance(value, str):
        return value[:_TEXT_CHARS_MAX].encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [_plain(one) for one in value]
    return value


def _cut_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - _LINE_BYTES_MAX))
        tail = file.read(_LINE_BYTES_MAX)
        if tail and not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)
