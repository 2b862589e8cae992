"""What a gateway must not forget when it dies: an append-only file.

    record = u32 length | u32 CRC-32 | body              body = a JournalEntry

A submission is on disk before its device hears that it counts; an update is on disk before devices hear of it. After a
crash, updates since the last checkpoint are applied again and submissions that are in no update are pending again: so
nothing counts twice and nothing is lost. A torn record at the end, which nobody was told of, is cut off.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from ...protocol.atomic import write_atomically
from ...protocol.edge_pb2 import JournalEntry
from ...protocol.errors import StateError

_HEAD = struct.Struct("<II")
ENTRY_BYTES_MAX = 1 << 30
COMPACT_ABOVE_BYTES = 8 << 20


class Journal:
    """The file, open for appending. Raises StateError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.entries = list(_read(path))
        """What was there when it was opened; the caller takes what it needs and clears it."""
        sound = sum(_HEAD.size + entry.ByteSize() for entry in self.entries)
        if path.exists() and path.stat().st_size != sound:
            os.truncate(path, sound)
        self._file = path.open("ab")

    @property
    def size_bytes(self) -> int:
        return self._file.tell()

    def append(self, entries: Iterable[JournalEntry]) -> None:
        """Write and sync. Raises OSError; what was written before stays."""
        self._file.write(b"".join(_framed(entry) for entry in entries))
        self._file.flush()
        os.fsync(self._file.fileno())

    def compact(self, keep: Callable[[JournalEntry], bool]) -> None:
        """Rewrite the file with only the entries that are still of use."""
        kept = [entry for entry in _read(self._path) if keep(entry)]
        self._file.close()
        write_atomically(self._path, b"".join(_framed(entry) for entry in kept), mode=0o600)
        self._file = self._path.open("ab")

    def close(self) -> None:
        self._file.close()


def _framed(entry: JournalEntry) -> bytes:
    body = entry.SerializeToString(deterministic=True)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _read(path: Path) -> Iterator[JournalEntry]:
    """Entries up to the first that is torn."""
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise StateError(f"cannot read the gateway's journal {path}: {error.strerror}; restore it") from None
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + length]
        if length > ENTRY_BYTES_MAX or len(body) < length or zlib.crc32(body) != checksum:
            return
        entry = JournalEntry()
        try:
            entry.ParseFromString(body)
        except DecodeError:
            return
        yield entry
        at += _HEAD.size + length
