"""Files that a crash leaves whole."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import disk_error


def write_atomically(path: Path, data: bytes | memoryview, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace a file so that a crash leaves the old or the new one, never half. Raises StateError, DiskFull."""
    temporary = f"{path}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - a path of its own would take longer than the call
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, f"cannot write {path}") from None


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
