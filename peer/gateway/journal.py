"""What a gateway must not forget when it dies: an append-only file.

    record = u32 length | u32 CRC-32 | body              body = a JournalEntry

A submission is on disk before its device hears that it counts; an update is on disk before devices hear of it. After a
crash, updates since the last checkpoint are applied again and submissions that are in no update are pending again: so
nothing counts twice and nothing is lost. What is torn at the end, which nobody was told of, is cut off. Entries are
read and rewritten one by one; the payloads of a large update go before it, each in a record of its own.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from google.protobuf.message import DecodeError

from ...protocol.atomic import sync_folder
from ...protocol.edge_pb2 import AppliedStep, JournalEntry, Step
from ...protocol.errors import StateError, disk_error

_HEAD = struct.Struct("<II")
RECORD_BYTES_MAX = 1 << 30
PAYLOAD_BYTES_MAX = RECORD_BYTES_MAX - 1024
"""Longest payload that a record takes."""
APART_ABOVE_BYTES = 1 << 20
COMPACT_ABOVE_BYTES = 8 << 20

Keep = Callable[[JournalEntry], JournalEntry | None]
"""What to keep of an entry; None: nothing."""


class Journal:
    """The file, open for appending. Raises StateError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sound = max((end for _, end in _read(path)), default=0)
        """Length of what is whole and on disk."""
        self._torn = False
        """There may be something behind that, and the file is closed."""
        self._open()

    @property
    def size_bytes(self) -> int:
        return self._sound

    def entries(self) -> Iterator[JournalEntry]:
        """What was written so far, one by one."""
        return (entry for entry, _ in _read(self._path))

    def append(self, entries: Iterable[JournalEntry]) -> None:
        """Write and sync all of them. Raises OSError, and StateError for what no record takes: none is there then."""
        if self._torn:
            self._open()
        try:
            for entry in entries:
                _write(self._file, entry)
            _sync(self._file)
        except BaseException:
            self._cut_back()
            raise
        self._sound = self._file.tell()

    def compact(self, keep: Keep) -> None:
        """Rewrite the file with only what is still of use. Raises StateError; nothing is lost then."""
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            with fresh.open("wb") as file:
                for kept in map(keep, self.entries()):
                    if kept is not None:
                        _write(file, kept)
                _sync(file)
                size = file.tell()
            fresh.replace(self._path)
            self._file.close()
            self._sound, self._torn = size, True
            self._open()
            sync_folder(self._path.parent)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise disk_error(error, f"cannot rewrite {self._path}") from None

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        """Raises OSError."""
        if self._path.exists() and self._path.stat().st_size != self._sound:
            os.truncate(self._path, self._sound)
        self._file = self._path.open("ab")
        self._torn = False

    def _cut_back(self) -> None:
        """Undo a write that failed: what comes behind a torn record would never be read again."""
        self._torn = True
        with contextlib.suppress(OSError):
            self._file.close()  # closing writes what was held back
        with contextlib.suppress(OSError):
            os.truncate(self._path, self._sound)  # done again before the next write


def _write(file: IO[bytes], entry: JournalEntry) -> None:
    for record in _records_of(entry):
        body = record.SerializeToString(deterministic=True)
        if len(body) > RECORD_BYTES_MAX:
            raise StateError(f"the gateway's journal takes no record of {len(body)} bytes: use a smaller model")
        file.write(_HEAD.pack(len(body), zlib.crc32(body)))
        file.write(body)


def _records_of(entry: JournalEntry) -> Iterator[JournalEntry]:
    """An entry as it is written: messages have bounds that the payloads of all members together may exceed."""
    payloads = entry.applied.step.payloads
    if sum(map(len, payloads)) <= APART_ABOVE_BYTES:
        yield entry
        return
    for payload in payloads:
        yield JournalEntry(payload=payload)
    others = {field.name: value for field, value in entry.applied.ListFields() if field.name != "step"}
    step = Step(learning_rate=entry.applied.step.learning_rate)
    yield JournalEntry(applied=AppliedStep(**others, step=step, payloads_apart=len(payloads)))


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read(path: Path) -> Iterator[tuple[JournalEntry, int]]:
    """Entries up to the first that is torn, each with its payloads, and where in the file each ends."""
    payloads: list[bytes] = []
    for record, end in _records_in(path):
        if record.HasField("payload"):
            payloads.append(record.payload)
            continue
        if record.applied.payloads_apart:
            if record.applied.payloads_apart != len(payloads):
                return
            record.applied.step.payloads.extend(payloads)
            record.applied.ClearField("payloads_apart")
        payloads.clear()
        yield record, end


def _records_in(path: Path) -> Iterator[tuple[JournalEntry, int]]:
    """Records up to the first that is torn, and where each ends."""
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            size, end = os.fstat(file.fileno()).st_size, 0
            while end + _HEAD.size <= size:
                length, checksum = _HEAD.unpack(file.read(_HEAD.size))
                end += _HEAD.size + length
                body = file.read(length) if end <= size and length <= RECORD_BYTES_MAX else b""
                if len(body) < length or zlib.crc32(body) != checksum:
                    return
                try:
                    yield JournalEntry.FromString(body), end
                except DecodeError:
                    return
    except OSError as error:
        raise StateError(f"cannot read the gateway's journal {path}: {error.strerror}; restore it") from None
