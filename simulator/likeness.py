"""A run as `gossamer up` laid it out, to be simulated with its own manifest, names and keys.

The same names make the same roster, the same leaders and the same samples for each member: what comes out of a strict
run is the same model, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..peer.event_kinds import Settled
from ..peer.events import read_events
from ..peer.folder import PeerFolder
from ..protocol.errors import UsageError
from ..protocol.identity import Identity
from ..protocol.manifest import SignedManifest, parse
from ..tasks import Task
from .fleets import Fleet
from .training import build, check_method


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What a simulation takes over from a run."""

    manifest: SignedManifest
    owner: Identity
    identities: tuple[Identity, ...]
    """Of machine 0, 1, ..."""
    tickets: tuple[bytes, ...]
    only_train: frozenset[int]
    """Those of a pipeline that served no stage."""

    def task(self) -> Task:
        """Raises: UsageError, UnknownName if this machine lacks the run's task or method."""
        told = self.manifest.manifest
        check_method(told.method.name, told.method.options, told.group.start_peers)
        return build(told.task.name, told.task.options)


def likeness_of(folder: Path) -> Likeness:
    """Read a run's folder. Raises UsageError if it holds none, StateError for keys that cannot be read."""
    homes = sorted((home for home in (folder / "peers").glob("*") if home.name.isdecimal()), key=_number)
    if not (folder / "manifest.toml").exists() or not homes:
        raise UsageError(f"{folder} holds no run: make one with gossamer up --out {folder}")
    return Likeness(
        manifest=parse((folder / "manifest.toml").read_bytes().decode()),
        owner=Identity.load(folder / "owner.key"),
        identities=tuple(Identity.load(home / "identity.key") for home in homes),
        tickets=tuple(PeerFolder(home).ticket() for home in homes),
        only_train=frozenset(number for number, home in enumerate(homes) if _only_trained(home)),
    )


def _only_trained(home: Path) -> bool:
    log = home / "events.jsonl"
    entries = read_events(log) if log.exists() else []
    settled = [entry.event.stage for entry in entries if isinstance(entry.event, Settled)]
    return bool(settled) and settled[-1] is None


def _number(home: Path) -> int:
    return int(home.name)


def check_alike(like: Likeness, fleet: Fleet) -> None:
    """Raises UsageError unless there is a machine for each of its peers."""
    if len(like.identities) != len(fleet.machines):
        raise UsageError(
            f"run.like has {len(like.identities)} peers and the fleet {len(fleet.machines)} machines: "
            f"set fleet.peers={len(like.identities)}"
        )
