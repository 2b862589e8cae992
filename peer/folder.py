"""A peer's folder on disk: manifest, identity, ticket, the count of its lives, its status."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..protocol.atomic import write_atomically
from ..protocol.errors import DiskFull, NoCheckpoint, StateError, disk_error
from ..protocol.identity import Identity, parse_peer_id
from ..protocol.manifest import SignedManifest, parse
from .checkpoints import Checkpoint, Loaded, load_newest
from .rounds.roster import WHOLE, Member, Roster
from .rounds.snapshots import Standing


class PeerFolder:
    """`path` holds manifest.toml, identity.key, ticket, incarnation, events.jsonl, status.json, checkpoints/."""

    def __init__(self, path: Path) -> None:
        """Raises StateError if it cannot be made."""
        self.path = path
        self.lived_before = False
        """Whether the life begun last was not the first in this folder."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, "cannot make the folder") from None

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def invites(self) -> Path:
        return self.path / "invites.json"

    def identity(self, chosen: Path | None = None) -> Identity:
        return Identity.load_or_create(chosen or self.path / "identity.key")

    def manifest(self) -> SignedManifest | None:
        path = self.path / "manifest.toml"
        return parse(path.read_bytes().decode()) if path.exists() else None

    def keep_manifest(self, manifest: SignedManifest) -> None:
        write_atomically(self.path / "manifest.toml", manifest.text.encode())

    def ticket(self) -> bytes:
        """Empty if there is none."""
        path = self.path / "ticket"
        return path.read_bytes() if path.exists() else b""

    def keep_ticket(self, ticket: bytes) -> None:
        write_atomically(self.path / "ticket", ticket, mode=0o600)

    def next_incarnation(self, now_s: float) -> int:
        """Begin a new life: a number that was never used before, on disk before it is used.

        A folder without a number may be a new one, or one that was lost with its disk while the key was kept
        elsewhere. Nobody may vote twice under one number, so the first is the time, and later ones count from there.
        """
        path = self.path / "incarnation"
        self.lived_before = path.exists()
        try:
            number = int(path.read_text()) + 1 if self.lived_before else max(1, int(now_s))
        except ValueError:
            raise StateError(f"{path} holds no number: write one larger than ever used, or use a new folder") from None
        write_atomically(path, f"{number}\n".encode())
        return number

    def write_status(self, status: Mapping[str, Any]) -> None:
        """For `gossamer status` and for whoever starts daemons. Without room on the disk the old one stays."""
        with contextlib.suppress(DiskFull):
            write_atomically(self.path / "status.json", json.dumps(status).encode(), durable=False)

    def newest_checkpoint(self) -> Loaded | None:
        try:
            return load_newest(self.path)
        except NoCheckpoint:
            return None


def standing_to_record(standing: Standing, *, stopped: bool) -> dict[str, Any]:
    """A standing as JSON, for a checkpoint."""
    return {
        "lineage": standing.lineage.hex(),
        "round": standing.index,
        "digest": standing.digest.hex(),
        "roster": [[one.peer, one.incarnation, one.stage, one.trains] for one in standing.roster.members],
        "stopped": stopped,
    }


def standing_of(checkpoint: Checkpoint) -> Standing:
    """The standing that a checkpoint was taken at. Raises StateError."""
    return standing_from_record(checkpoint.record)


def standing_from_record(record: Mapping[str, Any]) -> Standing:
    """What `standing_to_record` wrote down. Raises StateError."""
    try:
        members = [_member_of(*entry) for entry in record["roster"]]
        return Standing(
            lineage=bytes.fromhex(record["lineage"]),
            index=int(record["round"]),
            roster=Roster.of(members),
            digest=bytes.fromhex(record["digest"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"a standing's record is incomplete ({error}): use an older one or a new folder") from None


def _member_of(peer: str, incarnation: int, stage: int = WHOLE, trains: bool = True) -> Member:
    return Member(parse_peer_id(str(peer)), int(incarnation), int(stage), bool(trains))
