"""`gossamer peer`: the daemon of a machine, from command line to exit code."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from ...protocol.admission import Admission
from ...protocol.errors import GossamerError, InvalidManifest, NotAdmitted, UsageError
from ...protocol.identity import Identity
from ...protocol.invites import Invite, parse_invite
from ...protocol.manifest import SignedManifest, parse
from ..daemon import Daemon, Result
from ..folder import PeerFolder
from ..membership import redeem
from ..network.config import NetworkConfig
from ..network.real import RealNetwork
from .order import build

GRACE_S = 4.5
"""From a signal to the end, at most."""
MANIFEST_KEY = "manifest"


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


def peer(call: Call, *, json_output: bool) -> None:
    """Run until the run ends or a signal asks to leave."""
    import torch

    torch.set_num_threads(1)
    logging.getLogger("hivemind").setLevel(logging.ERROR)
    if (call.invite is None) == (call.manifest is None):
        raise UsageError("give either an invite line or --run FILE (gossamer run invite prints invites)")
    result = asyncio.run(_run(call))
    if json_output:
        print(json.dumps({"outcome": result.outcome, "step": result.step, "digest": result.digest.hex()}))
    else:
        print(f"{result.outcome} at step {result.step}, state {result.digest.hex()[:12]}", file=sys.stderr)


async def _run(call: Call) -> Result:
    invite = parse_invite(call.invite) if call.invite is not None else None
    known = parse(_read(call.manifest)) if call.manifest is not None else None
    run_id = known.run_id if known is not None else invite.run_id if invite is not None else ""
    folder = PeerFolder(call.folder or call.runs / run_id)
    known = known or folder.manifest()
    identity_path = call.identity or call.owner_key or folder.path / "identity.key"
    identity = Identity.load_or_create(identity_path)
    owner = Identity.load(call.owner_key) if call.owner_key is not None else None
    if owner is not None and owner.peer_id != identity.peer_id:
        raise UsageError("the owner's peer is known by the owner's key: leave --identity out, or give the same file")
    bootstrap = call.join or (invite.addresses if invite is not None else ())
    network = await RealNetwork.open(identity, _config(call, run_id, identity_path, bootstrap))
    try:
        manifest = known or await _fetch_manifest(network, invite)
        folder.keep_manifest(manifest)
        await _settle_admission(network, manifest, folder, identity, invite)
        task = build(manifest.manifest.task.name, dict(manifest.manifest.task.options), call.data)
        daemon = Daemon(
            network=network,
            identity=identity,
            manifest=manifest,
            task=task,
            folder=folder,
            owner=owner,
            stop_at=call.stop_at,
        )
        (folder.path / "addresses.json").write_text(json.dumps(network.addresses()))
        publish = asyncio.create_task(_publish_manifest(network, manifest))
        try:
            return await _until_done(daemon, network.addresses()[0] if network.addresses() else "")
        finally:
            publish.cancel()
            await asyncio.gather(publish, return_exceptions=True)
    finally:
        await network.close()


def _config(call: Call, run_id: str, identity_path: Path, bootstrap: tuple[str, ...]) -> NetworkConfig:
    return NetworkConfig(
        run_id=run_id,
        identity_path=identity_path,
        bootstrap=bootstrap,
        listen_host=call.listen,
        announce_host=call.announce,
        p2p_port=call.p2p_port,
        grpc_port=call.grpc_port,
        dialable=call.dialable,
    )


async def _until_done(daemon: Daemon, address: str) -> Result:
    """Run the daemon; the first signal asks it to leave, and after a few seconds it is made to."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(daemon.run(address))

    def leave() -> None:
        daemon.leave()
        loop.call_later(GRACE_S, work.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(daemon.describe(), file=sys.stderr, flush=True))
    try:
        return await work
    except asyncio.CancelledError:
        await daemon.give_up()
        return daemon.result("stopped")


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


async def _settle_admission(
    network: RealNetwork, manifest: SignedManifest, folder: PeerFolder, identity: Identity, invite: Invite | None
) -> None:
    """See that this peer holds what admits it. Raises NotAdmitted."""
    admission = Admission(manifest.manifest.admission.policy, manifest.owner, manifest.run_id)
    if invite is not None and not folder.ticket():
        folder.keep_ticket(await redeem(network, invite))
    try:
        admission.check_ticket(folder.ticket(), peer=identity.peer_id, now_s=network.unix_time_s())
    except GossamerError as error:
        raise NotAdmitted(
            f"{identity.peer_id} has no valid ticket for this run ({error}): ask its owner for an invite line"
        ) from None
