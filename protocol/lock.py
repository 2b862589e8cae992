"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import FolderInUse, disk_error

LOCK = "lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have a folder to oneself; a process that dies gives it back. Raises FolderInUse, StateError."""
    try:
        file = (folder / LOCK).open("a+", encoding="ascii")
    except OSError as error:
        raise disk_error(error, f"cannot write {folder / LOCK}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(20).strip() or "?"
            raise FolderInUse(f"{folder} is in use by process {owner}: stop it first, or name another folder") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
