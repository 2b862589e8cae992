"""Long answers on the gateway's disk: received in pieces, checked as a whole, read as views while they wait.

An answer of millions of weights is not kept in memory: pieces are written to a file, which gets its final name when it
is complete and its digest is right. What waits for an update is mapped, so the kernel keeps of it what it has room for.
The journal has files synced before it writes of them, several at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Collection
from pathlib import Path

from ...protocol.atomic import sync_folder
from ...protocol.devices import Submission
from ...protocol.errors import ChecksumMismatch, InvalidMessage, disk_error

_PART = ".part"


class Spool:
    """A folder of answers, by name. What broke off is kept until something else comes under that name."""

    def __init__(self, folder: Path) -> None:
        """What an earlier life had received in part is removed: it cannot be known what of it is on disk."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._names: set[str] = set()
        self._unsynced: list[str] = []
        for path in folder.iterdir():
            if path.suffix == _PART:
                path.unlink()
            else:
                self._names.add(path.name)

    def has(self, name: str) -> bool:
        return name in self._names

    def received(self, name: str) -> int:
        """Bytes that are here of an answer that is not complete."""
        try:
            return self._part(name).stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, name: str, at: int, piece: bytes) -> None:
        """Put a piece in its place; twice is as good as once. Raises StateError, DiskFull."""
        part = self._part(name)
        try:
            with part.open("r+b" if part.exists() else "xb") as file:
                file.seek(at)
                file.write(piece)
        except OSError as error:
            raise disk_error(error, f"cannot keep the answer {name}") from None

    def complete(self, name: str, digest: bytes, length: int) -> None:
        """Give an answer its final name. Raises InvalidMessage, ChecksumMismatch, StateError."""
        part = self._part(name)
        try:
            with part.open("rb") as file:
                if os.fstat(file.fileno()).st_size != length:
                    raise InvalidMessage(f"the answer {name} ended before its {length} bytes were here: send the rest")
                found = hashlib.file_digest(file, "sha256").digest()
            if found != digest:
                part.unlink()
                raise ChecksumMismatch(f"the answer {name} is not the one that was announced: send it anew")
            part.replace(self._folder / name)
        except OSError as error:
            raise disk_error(error, f"cannot keep the answer {name}") from None
        self._names.add(name)
        self._unsynced.append(name)

    def sync(self) -> None:
        """Make what was completed since the last time outlast a loss of power. Raises OSError."""
        for name in self._unsynced:
            with contextlib.suppress(FileNotFoundError), (self._folder / name).open("rb") as file:
                os.fsync(file.fileno())
        if self._unsynced:
            sync_folder(self._folder)
        self._unsynced.clear()  # not before: what failed is still to be done

    def view(self, name: str) -> memoryview:
        """All of a complete answer, read-only; good until it is let go of, whatever becomes of the file."""
        with (self._folder / name).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def keep_only(self, names: Collection[str]) -> None:
        """Remove all other complete answers."""
        for name in sorted(self._names.difference(names)):
            self._names.discard(name)
            (self._folder / name).unlink(missing_ok=True)

    def keep_parts(self, names: Collection[str]) -> None:
        """Remove what was received in part of all others."""
        wanted = {self._part(name) for name in names}
        for path in sorted(self._folder.glob("*" + _PART)):
            if path not in wanted:
                path.unlink(missing_ok=True)

    def _part(self, name: str) -> Path:
        return self._folder / (name + _PART)


def name_of(submission: Submission) -> str:
    """The name of a submission's long answer: by round, slot and content."""
    return f"{submission.round_index:08x}-{submission.slot:04x}-{submission.digest.hex()}"
