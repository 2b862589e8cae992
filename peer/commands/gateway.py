"""`gossamer gateway`: tokens, devices, revocation, certificates, and samples for a try-out."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.enrolment import Token
from ...protocol.errors import UsageError
from ...protocol.identity import Identity
from ...protocol.transport.certificates import kept_certificate, renew_certificate
from ...tasks.classification import Classification
from ..folder import PeerFolder
from ..gateway.book import Book, issue_token, revoke
from ..gateway.integers import input_range, pixels
from ..network.front import fresh_secret
from .order import build, for_devices

HOME = "gateway"


def gateway_identity(folder: PeerFolder) -> Identity:
    """The key by which devices know the gateway of a folder; made if there is none."""
    return Identity.load_or_create(folder.path / HOME / "identity.key")


def token(folder: Path, days: float) -> None:
    """Print a line that enrols one device, once."""
    print(new_token(PeerFolder(folder), expires_at_s=time.time() + days * 86400.0))


def new_token(folder: PeerFolder, *, expires_at_s: float) -> str:
    """A token's line, entered into the gateway's book. Raises UsageError if the folder holds no run."""
    manifest = folder.manifest()
    if manifest is None:
        raise UsageError(f"{folder.path} holds no run: start the gateway first (gossamer peer --gateway HOST:PORT)")
    identity = gateway_identity(folder)
    certificate = kept_certificate(folder.path / HOME, identity)
    made = Token(
        run_id=manifest.run_id,
        gateway=identity.peer_id,
        certificate_hash=hashlib.sha256(certificate.der).digest(),
        secret=fresh_secret(),
    )
    issue_token(folder.path / HOME, made, expires_at_s=expires_at_s)
    return made.line()


def devices(folder: Path, *, json_output: bool) -> None:
    """Print who is enrolled."""
    home = PeerFolder(folder)
    manifest = home.manifest()
    if manifest is None:
        raise UsageError(f"{folder} holds no run")
    book = Book(home.path / HOME, run_id=manifest.run_id, gateway=gateway_identity(home).peer_id)
    print(json.dumps({"devices": book.devices}) if json_output else "\n".join(book.devices))


def shut_out(folder: Path, device: str) -> None:
    """Revoke a device."""
    revoke(folder / HOME, device)
    print(f"{device} is shut out from the next round on", file=sys.stderr)


def renew(folder: Path) -> None:
    """Make a new certificate; the gateway shows it when it is started again, and devices go over to it."""
    renew_certificate(folder / HOME, gateway_identity(PeerFolder(folder)))
    print("new certificate: restart the gateway", file=sys.stderr)


def deal_out(
    out: Path,
    task: str,
    data: Path | None,
    parts: int,
    alpha: float | None,
    seed: int,
    options: Mapping[str, Any] | None = None,
    *,
    in_bytes: bool = False,
) -> None:
    """Write a task's training samples as one file for each of `parts` devices.

    Args:
        options: of the task; None: those that suit devices.
        alpha: of a Dirichlet distribution over classes for each device; None: every device gets a like mixture.
        in_bytes: as bytes, which fixed point takes, whatever the task has.
    """
    built = build(task, for_devices(task) if options is None else dict(options), data)
    if not isinstance(built, Classification):
        raise UsageError(f"task {task!r} has no labelled samples to deal out")
    labels = built.train.labels.numpy()
    inputs = pixels(built.train, *input_range(built)) if in_bytes else built.train.inputs.numpy()
    out.mkdir(parents=True, exist_ok=True)
    for number, chosen in enumerate(split(labels, parts, alpha, seed)):
        np.savez_compressed(out / f"{number}.npz", inputs=inputs[chosen], labels=labels[chosen])


def split(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], parts: int, alpha: float | None, seed: int
) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Which samples each device gets: all of them, each once; every device at least one."""
    rng = np.random.default_rng(seed)
    if len(labels) < parts:
        raise UsageError(f"{len(labels)} samples are not enough for {parts} devices")
    if alpha is None:
        order = rng.permutation(len(labels))
        return [np.sort(order[number::parts]) for number in range(parts)]
    shares: list[list[int]] = [[] for _ in range(parts)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(rng.dirichlet(np.full(parts, alpha)))[:-1] * len(members)).astype(int)
        for share, piece in zip(shares, np.split(members, cuts), strict=True):
            share.extend(int(index) for index in piece)
    for share in shares:
        if not share:
            share.append(max(shares, key=len).pop())
    return [np.sort(np.array(share, np.int64)) for share in shares]
