"""`gossamer run new|show|invite`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from ...protocol.atomic import write_atomically
from ...protocol.errors import StateError, UsageError
from ...protocol.identity import Identity
from ...protocol.invite_book import InviteBook
from ...protocol.invites import Invite
from ...protocol.manifest import compose, parse
from ..folder import PeerFolder
from .order import Order, manifest_for, now_text
from .places import peer_folders
from .status import daemon_status

__all__ = ["Order", "invite", "new", "show"]

TICKET_LIFETIME_S = 365 * 86400.0


def new(out: Path, order: Order, *, start_peers: int, open_to_all: bool) -> None:
    """Write manifest.toml and owner.key into a folder; never over an existing run."""
    if (out / "manifest.toml").exists():
        raise UsageError(f"{out} already holds a run: choose another folder")
    policy = "open" if open_to_all else "ticket"
    manifest, _ = manifest_for(order, created=now_text(), start_peers=start_peers, policy=policy)
    owner = Identity.load_or_create(out / "owner.key")
    text = compose(manifest, owner)
    write_atomically(out / "manifest.toml", text.encode())
    print(f"run {parse(text).run_id} of {owner.peer_id}")
    key = out / "owner.key"
    print(f"start the owner's peer: gossamer peer --run {out}/manifest.toml --owner-key {key} --folder {out}/peer")
    print("  (if others shall reach it from elsewhere, add: --listen 0.0.0.0 --announce YOUR.HOST)")
    print(f"then invite others, one line each: gossamer run invite {out}")


def show(manifest: Path, *, json_output: bool) -> None:
    """Of a manifest's file, or of the folder that it is in."""
    manifest = manifest / "manifest.toml" if manifest.is_dir() else manifest
    try:
        signed = parse(manifest.read_bytes().decode())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {manifest}: {error}; give the path of a manifest.toml") from None
    if json_output:
        print(json.dumps({"run_id": signed.run_id, "owner": signed.owner, **signed.manifest.model_dump()}))
        return
    table = Table("key", "value", title=f"run {signed.run_id}, signed by {signed.owner}")
    for name, group in signed.manifest.model_dump().items():
        for key, value in group.items():
            table.add_row(f"{name}.{key}", str(value))
    Console().print(table)


def invite(folder: Path, owner_key: Path | None, days: float) -> None:
    """Issue a one-time invite: written down first, then printed."""
    path = peer_folders(folder)[0]
    key = owner_key or next((p for p in (folder / "owner.key", path.parent / "owner.key") if p.exists()), None)
    if key is None:
        raise UsageError(f"no owner.key in {folder}: give --owner-key FILE, which gossamer run new has written")
    home = PeerFolder(path)
    manifest, addresses = home.manifest(), path / "addresses.json"
    if manifest is None or not addresses.exists():
        raise UsageError(f"no daemon has run in {path}: start the owner's peer first (gossamer peer --run ...)")
    owner = Identity.load(key)
    if owner.peer_id != manifest.owner:
        raise UsageError(f"{key} is not the key of the run's owner {manifest.owner}: give that with --owner-key")
    made = Invite(
        run_id=manifest.run_id,
        owner=manifest.owner,
        addresses=_addresses(addresses)[:3],
        secret=os.urandom(32),
    )
    now_s = time.time()
    book = InviteBook.from_json(home.invites.read_text()) if home.invites.exists() else InviteBook(manifest.run_id)
    book.issue(made, now_s=now_s, expires_at_s=now_s + days * 86400, role="peer", ticket_lifetime_s=TICKET_LIFETIME_S)
    write_atomically(home.invites, book.to_json().encode(), mode=0o600)
    print(made.line())
    for note in _doubts(path, made):
        print(f"note: {note}", file=sys.stderr)


def _addresses(path: Path) -> tuple[str, ...]:
    """What the owner's daemon wrote. Raises StateError."""
    try:
        return tuple(TypeAdapter(list[str]).validate_json(path.read_bytes(), strict=True))
    except (OSError, ValueError):
        raise StateError(f"{path} is damaged: start the owner's peer again, which writes it anew") from None


def _doubts(path: Path, made: Invite) -> Iterator[str]:
    """Why the newcomer may not get in."""
    told = daemon_status(path)
    if told is not None and told["state"] not in ("training", "waiting"):
        yield f"the daemon in {path} is not running ({told['state']}): start it, and make the invite then"
    if all("/ip4/127." in address or "/ip6/::1/" in address for address in made.addresses):
        yield (
            "it serves on this machine only, as that daemon listens on 127.0.0.1: for others start it with "
            "--listen 0.0.0.0 --announce YOUR.HOST"
        )
