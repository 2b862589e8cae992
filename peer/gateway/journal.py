"""What a gateway must not forget when it dies: an append-only file.

    record = u32 length | u32 CRC-32 | body              body = a JournalEntry

A submission is on disk before its device hears that it counts; an update is on disk before devices hear of it. After a
crash, updates since the last checkpoint are applied again and submissions that are in no update are pending again: so
nothing counts twice and nothing is lost. A torn record at the end, which nobody was told of, is cut off. Records are
read and rewritten one by one: an update of a large model is a large record.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from google.protobuf.message import DecodeError

from ...protocol.edge_pb2 import JournalEntry
from ...protocol.errors import StateError, disk_error

_HEAD = struct.Struct("<II")
ENTRY_BYTES_MAX = 1 << 30
COMPACT_ABOVE_BYTES = 8 << 20

Keep = Callable[[JournalEntry], JournalEntry | None]
"""What to keep of an entry; None: nothing."""


class Journal:
    """The file, open for appending. Raises StateError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = sum(_HEAD.size + length for _, length in _read(path))
        if path.exists() and path.stat().st_size != sound:
            os.truncate(path, sound)
        self._file = path.open("ab")

    @property
    def size_bytes(self) -> int:
        return self._file.tell()

    def entries(self) -> Iterator[JournalEntry]:
        """What was written so far, one by one."""
        return (entry for entry, _ in _read(self._path))

    def append(self, entries: Iterable[JournalEntry]) -> None:
        """Write and sync. Raises OSError; what was written before stays."""
        for entry in entries:
            _write(self._file, entry)
        _sync(self._file)

    def compact(self, keep: Keep) -> None:
        """Rewrite the file with only what is still of use. Raises StateError; the file is as it was then."""
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            with fresh.open("wb") as file:
                for kept in map(keep, self.entries()):
                    if kept is not None:
                        _write(file, kept)
                _sync(file)
            fresh.replace(self._path)
        except OSError as error:
            raise disk_error(error, f"cannot rewrite {self._path}") from None
        self._file.close()
        self._file = self._path.open("ab")

    def close(self) -> None:
        self._file.close()


def _write(file: IO[bytes], entry: JournalEntry) -> None:
    body = entry.SerializeToString(deterministic=True)
    file.write(_HEAD.pack(len(body), zlib.crc32(body)))
    file.write(body)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read(path: Path) -> Iterator[tuple[JournalEntry, int]]:
    """Entries up to the first that is torn, and the lengths of their bodies."""
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size
            while left >= _HEAD.size:
                length, checksum = _HEAD.unpack(file.read(_HEAD.size))
                left -= _HEAD.size + length
                body = file.read(length) if left >= 0 and length <= ENTRY_BYTES_MAX else b""
                if len(body) < length or zlib.crc32(body) != checksum:
                    return
                try:
                    yield JournalEntry.FromString(body), length
                except DecodeError:
                    return
    except OSError as error:
        raise StateError(f"cannot read the gateway's journal {path}: {error.strerror}; restore it") from None
