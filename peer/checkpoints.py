"""Checkpoints on disk: whatever instant the process or the machine dies at, one is left that loads.

A checkpoint, `<folder>/checkpoints/00000120/`, is written to a temporary sibling and renamed when everything in it has
reached the disk. One process at a time may save in a folder. A step that is saved again gets a folder of its own
(`00000120.1`), so that nothing that loads is ever taken away before its successor is in place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..protocol.errors import CorruptCheckpoint, DiskFull, NoCheckpoint, StateError
from .checkpoint_format import JSON, Checkpoint, pack, unpack

__all__ = ["JSON", "Checkpoint", "Loaded", "list_checkpoints", "load", "load_newest", "save"]

_FOLDER_NAME = re.compile(r"(\d{8,18})(?:\.(\d{1,9}))?")
_TEMPORARY = (".saving-", ".old-")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The newest checkpoint that is whole, and the newer ones that are not."""

    checkpoint: Checkpoint
    path: Path
    rejected: list[tuple[Path, str]]
    """(folder, why it does not load), newest first."""


def save(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint; when it is safe, remove all but the newest `keep`, and leftovers of interrupted saves.

    What is saved last is the newest: checkpoints of later steps belong to a history that was given up, and go too.

    Args:
        folder: the run's folder on this machine, made if missing.
        keep: at least 1.
    Returns: the checkpoint's folder.
    Raises: DiskFull, StateError; the earlier checkpoints are intact then.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")
    home = folder / "checkpoints"
    contents = pack(checkpoint)
    try:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        path = _write(home, checkpoint.step, contents)
    except OSError as error:
        _refuse(error, home, checkpoint.step, n_bytes=sum(map(len, contents.values())))
    _prune(home, path, keep=keep)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders of the finished checkpoints, newest first; whether they are whole is only known by loading."""
    home = folder / "checkpoints"
    if not home.is_dir():
        return []
    ordered = [(order, path) for path in home.iterdir() if (order := _order(path)) is not None]
    return [path for _, path in sorted(ordered, reverse=True)]


def load(path: Path) -> Checkpoint:
    """Read the checkpoint in one of the folders that `list_checkpoints` names. Raises CorruptCheckpoint."""
    checkpoint = unpack(path)
    if _order(path) is None or checkpoint.step != int(path.name.split(".")[0]):
        raise CorruptCheckpoint(f"the checkpoint {path} is that of step {checkpoint.step}: give its folder that name")
    return checkpoint


def load_newest(folder: Path) -> Loaded:
    """Load the newest checkpoint that is whole.

    Raises: NoCheckpoint if there is none; CorruptCheckpoint if not one of them is whole.
    """
    rejected: list[tuple[Path, str]] = []
    for path in list_checkpoints(folder):
        try:
            return Loaded(checkpoint=load(path), path=path, rejected=rejected)
        except CorruptCheckpoint as error:
            rejected.append((path, str(error)))
    if rejected:
        raise CorruptCheckpoint(
            f"none of the {len(rejected)} checkpoints in {folder / 'checkpoints'} loads (newest: {rejected[0][1]}); "
            "move that folder away to start anew from the group's state"
        )
    raise NoCheckpoint(f"there is no checkpoint in {folder / 'checkpoints'}: check the run's folder (--dir)")


def _write(home: Path, step: int, contents: Mapping[str, bytes]) -> Path:
    temporary = home / f".saving-{step:08d}"
    try:
        temporary.mkdir()
        for name, data in contents.items():
            _write_through(temporary / name, data)
        _sync_folder(temporary)
        path = _free_name(home, step)
        temporary.rename(path)
        _sync_folder(home)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return path


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_name(home: Path, step: int) -> Path:
    taken = [order[1] for path in home.iterdir() if (order := _order(path)) is not None and order[0] == step]
    return home / (f"{step:08d}.{max(taken) + 1}" if taken else f"{step:08d}")


def _refuse(error: OSError, home: Path, step: int, *, n_bytes: int) -> NoReturn:
    cause = f"cannot write the checkpoint of step {step} to {home}: {error.strerror}"
    if error.errno not in _NO_ROOM:
        raise StateError(f"{cause}; check that folder's permissions, or name another with --dir") from None
    free = shutil.disk_usage(next(path for path in (home, *home.parents) if path.is_dir())).free
    raise DiskFull(
        f"{cause}: it needs {n_bytes:,} bytes, {free:,} are free; make room there, or name another folder with --dir "
        "(earlier checkpoints are intact)"
    ) from None


def _prune(home: Path, newest: Path, *, keep: int) -> None:
    paths = list_checkpoints(home.parent)
    place = paths.index(newest)
    with contextlib.suppress(OSError):  # the checkpoint is safe: what resists is tried again at the next save
        for path in paths[:place] + paths[place + keep :]:
            path.rename(home / f".old-{path.name}")  # so that it never shows half deleted
        _sweep(home)


def _sweep(home: Path) -> None:
    for path in sorted(home.iterdir()):
        if path.name.startswith(_TEMPORARY):
            shutil.rmtree(path, ignore_errors=True)


def _order(path: Path) -> tuple[int, int] | None:
    """(step, how many times it had been saved before), None if this is not a checkpoint's folder."""
    match = _FOLDER_NAME.fullmatch(path.name)
    return (int(match[1]), int(match[2] or 0)) if match else None
