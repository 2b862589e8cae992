"""Where daemons have run: the folders that people name on the command line, and what lies in them."""

from __future__ import annotations

from pathlib import Path

from ...protocol.errors import UsageError


def peer_folders(folder: Path) -> list[Path]:
    """Folders of the daemons in or below `folder`, in order.

    It may be a peer's own, that of a run (`gossamer run new`, whose owner's peer is in `peer`), that of `gossamer up`
    (whose daemons are in `peers`), or one that holds several of these. Raises UsageError if no daemon has run there.
    """
    found = _found(folder) or [home for below in _folders(folder) for home in _found(below)]
    if not found:
        raise UsageError(f"no daemon has run in {folder}: give the folder of a peer, or that of gossamer up")
    return found


def _found(folder: Path) -> list[Path]:
    peers = sorted(_folders(folder / "peers"), key=lambda path: (len(path.name), path.name))
    return [path for path in (folder, folder / "peer", *peers) if (path / "incarnation").is_file()]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
