"""`gossamer peer`: the daemon of a machine, from command line to exit code."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...protocol.admission import Admission
from ...protocol.atomic import write_atomically
from ...protocol.errors import GossamerError, InvalidManifest, UsageError
from ...protocol.identity import Identity
from ...protocol.invites import Invite, parse_invite
from ...protocol.lock import held
from ...protocol.manifest import SignedManifest, parse
from ..daemon import Daemon, Devices, Result
from ..folder import PeerFolder
from ..freed_memory import keep_freed_memory
from ..gateway.options import GatewayOptions
from ..membership import redeem
from ..network.addresses import check_port_free, parse_address
from ..network.config import NetworkConfig
from ..network.front import Front, parse_listen
from ..network.real import RealNetwork
from ..pipeline.daemon import StageDaemon
from ..pipeline.memory import check_memory, parse_bytes
from ..rounds.roster import WHOLE
from .departure import Departure
from .gateway import HOME, gateway_identity
from .memory_cap import within
from .order import build
from .stages import parse_stage
from .telling import tell, tell_waiting

MANIFEST_KEY = "manifest"
ADDRESSES = "addresses.json"


@dataclass(frozen=True, kw_only=True)
class Call:
    """How the daemon was called."""

    invite: str | None
    manifest: Path | None
    join: tuple[str, ...]
    identity: Path | None
    runs: Path
    folder: Path | None
    owner_key: Path | None
    data: Path | None
    listen: str
    announce: str | None
    p2p_port: int
    grpc_port: int
    dialable: bool
    stop_at: int | None
    lifeline: bool
    seed_for_s: float = 0.0
    """How long to hold the final state for latecomers."""
    stage: str | None = None
    """auto, none, or a number: what to serve of a pipeline."""
    trains: bool = True
    """Whether to pass microbatches, besides serving a stage."""
    max_memory: str | None = None
    """A size such as 600MB: this daemon takes no more."""
    gateway: str | None = None
    """HOST:PORT to serve devices on."""
    devices: GatewayOptions = field(default_factory=GatewayOptions)


def peer(call: Call, *, json_output: bool) -> None:
    """Run until the run ends or a signal asks to leave."""
    import torch

    torch.set_num_threads(1)
    if call.max_memory is None:  # else a little more memory may be too much
        keep_freed_memory()
    logging.getLogger("hivemind").setLevel(logging.ERROR)
    if (call.invite is None) == (call.manifest is None):
        raise UsageError("give either an invite line or --run FILE (gossamer run invite prints invites)")
    try:
        result = asyncio.run(_run(call))
    except asyncio.CancelledError:
        raise GossamerError("asked to leave before it had a place in the run: start it again to take part") from None
    if json_output:
        print(json.dumps({"outcome": result.outcome, "step": result.step, "digest": result.digest.hex()}))
    else:
        print(f"{result.outcome} at step {result.step}, state {result.digest.hex()[:12]}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What a call names."""

    run_id: str
    known: SignedManifest | None
    """None: others have to tell."""
    invite: Invite | None
    owner: Identity | None
    folder: PeerFolder


def _entry(call: Call) -> _Entry:
    invite = parse_invite(call.invite) if call.invite is not None else None
    known = parse(_read(call.manifest)) if call.manifest is not None else None
    run_id = known.run_id if known is not None else invite.run_id if invite is not None else ""
    owner = _owner(call, known)
    folder = PeerFolder(call.folder or call.runs / run_id)
    kept = _kept(folder, run_id)
    return _Entry(run_id=run_id, known=known or kept, invite=invite, owner=owner, folder=folder)


async def _run(call: Call) -> Result:
    departure = Departure(lifeline=call.lifeline)
    cap = parse_bytes(call.max_memory) if call.max_memory is not None else None
    entry = _entry(call)
    with held(entry.folder.path):
        return await _take_part(call, entry, departure, cap)


async def _take_part(call: Call, entry: _Entry, departure: Departure, cap: int | None) -> Result:
    folder, known, invite, owner = entry.folder, entry.known, entry.invite, entry.owner
    identity_path = call.identity or call.owner_key or folder.path / "identity.key"
    identity = Identity.load_or_create(identity_path)
    if owner is not None and owner.peer_id != identity.peer_id:
        raise UsageError("the owner's peer is known by the owner's key: leave --identity out, or give the same file")
    if known is not None and invite is None:
        _check_ticket(known, folder, identity, time.time())
    bootstrap = call.join or (invite.addresses if invite is not None else ())
    network = await RealNetwork.open(identity, _config(call, entry, identity_path, bootstrap))
    front: Front | None = None
    try:
        manifest = known or await _fetch_manifest(network, invite)
        folder.keep_manifest(manifest)
        if invite is not None and not folder.ticket():
            folder.keep_ticket(await redeem(network, invite))
        _check_ticket(manifest, folder, identity, network.unix_time_s())
        task = build(manifest.manifest.task.name, dict(manifest.manifest.task.options), call.data)
        front = await _open_front(call, folder, manifest)
        options: dict[str, Any] = {
            "network": network,
            "identity": identity,
            "manifest": manifest,
            "task": task,
            "folder": folder,
            "owner": owner,
            "stop_at": call.stop_at,
            "devices": _devices(call, folder, front),
            "seed_for_s": call.seed_for_s,
        }
        stage = parse_stage(call.stage, manifest.manifest)
        if cap is not None:
            check_memory(task, manifest.manifest, cap, None if stage == WHOLE else stage)
        if manifest.manifest.pipeline.stages > 1:
            daemon: Daemon = StageDaemon(stage=stage, trains=call.trains, memory_max=cap, **options)
        else:
            daemon = Daemon(**options)
        daemon.log.listen(tell)
        network.on_lost = lambda what: None if departure.asked else daemon.trainer.warned(what)
        write_atomically(folder.path / ADDRESSES, json.dumps(network.addresses()).encode())
        chores = [asyncio.create_task(_publish_manifest(network, manifest)), asyncio.create_task(tell_waiting(daemon))]
        try:
            life = _until_done(daemon, network.addresses()[0] if network.addresses() else "", departure)
            return await within(cap, life)
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
    finally:
        if front is not None:
            await front.close()
        await network.close()


async def _open_front(call: Call, folder: PeerFolder, manifest: SignedManifest) -> Front | None:
    """The port for devices, if this peer is a gateway; where it is stands in gateway/address."""
    if call.gateway is None:
        return None
    host, port = parse_listen(call.gateway)
    home = folder.path / HOME
    if not port and (home / "address").exists():
        _, port = parse_listen((home / "address").read_text().strip())  # devices know this one
    front = await Front.open(gateway_identity(folder), run_id=manifest.run_id, folder=home, host=host, port=port)
    write_atomically(home / "address", f"{host}:{front.port}\n".encode())
    return front


def _devices(call: Call, folder: PeerFolder, front: Front | None) -> Devices | None:
    if front is None:
        return None
    return Devices(front=front, identity=gateway_identity(folder), options=call.devices)


def _owner(call: Call, manifest: SignedManifest | None) -> Identity | None:
    """The run's owner's key. Unlike a peer's own it is never made here: it has to be the one that signed the run."""
    if call.owner_key is None:
        return None
    if not call.owner_key.exists():
        raise UsageError(f"there is no owner's key {call.owner_key}: gossamer run new writes it beside the manifest")
    owner = Identity.load(call.owner_key)
    if manifest is not None and owner.peer_id != manifest.owner:
        raise UsageError(f"{call.owner_key} is not the key of the run's owner {manifest.owner}: leave --owner-key out")
    return owner


def _kept(folder: PeerFolder, run_id: str) -> SignedManifest | None:
    """The manifest that an earlier start has left in the folder. Raises UsageError if it is that of another run."""
    manifest = folder.manifest()
    if manifest is not None and manifest.run_id != run_id:
        raise UsageError(f"{folder.path} belongs to run {manifest.run_id}, not to {run_id}: use another --folder")
    return manifest


def _config(call: Call, entry: _Entry, identity_path: Path, bootstrap: tuple[str, ...]) -> NetworkConfig:
    return NetworkConfig(
        run_id=entry.run_id,
        identity_path=identity_path,
        bootstrap=bootstrap,
        listen_host=call.listen,
        announce_host=call.announce,
        p2p_port=call.p2p_port or (port_before(entry.folder.path, call.listen) if call.dialable else 0),
        grpc_port=call.grpc_port,
        dialable=call.dialable,
    )


def port_before(folder: Path, host: str) -> int:
    """That of the daemon's last life, so that invites hold which name it; 0 if there is none, or it is taken by now."""
    try:
        port = parse_address(json.loads((folder / ADDRESSES).read_bytes())[0]).port
        check_port_free(host, port, option="libp2p port")
    except (OSError, ValueError, TypeError, LookupError, AttributeError, GossamerError):
        return 0
    return port


async def _until_done(daemon: Daemon, address: str, departure: Departure) -> Result:
    """Run the daemon; a signal asks it to leave."""
    departure.act = daemon.leave
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(daemon.describe(), file=sys.stderr, flush=True))
    return await daemon.run(address)


def _read(path: Path | None) -> str:
    try:
        return path.read_bytes().decode() if path is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"cannot read the manifest {path}: {error}; give the path of a manifest.toml") from None


async def _fetch_manifest(network: RealNetwork, invite: Invite | None) -> SignedManifest:
    """Newcomers get the manifest from the DHT; its hash and owner stand in the invite."""
    if invite is None:
        raise UsageError("no manifest: give --run FILE or an invite line")
    for _ in range(20):
        for record in await network.lookup(MANIFEST_KEY):
            try:
                manifest = parse(record.value.decode(errors="replace"))
            except GossamerError:
                continue
            if (manifest.run_id, manifest.owner) == (invite.run_id, invite.owner):
                return manifest
        await asyncio.sleep(0.5)
    raise InvalidManifest(f"no peer has published the manifest of run {invite.run_id}: ask the owner for the file")


async def _publish_manifest(network: RealNetwork, manifest: SignedManifest) -> None:
    while True:
        try:
            await network.publish(MANIFEST_KEY, manifest.text.encode(), ttl_s=1800.0)
            pause_s = 600.0
        except GossamerError:
            pause_s = 10.0
        await asyncio.sleep(pause_s)


def _check_ticket(manifest: SignedManifest, folder: PeerFolder, identity: Identity, now_s: float) -> None:
    """See that this peer holds what admits it. Raises NotAdmitted, Expired, InvalidMessage."""
    admission = Admission(manifest.manifest.admission.policy, manifest.owner, manifest.run_id)
    admission.check_ticket(folder.ticket(), peer=identity.peer_id, now_s=now_s)
