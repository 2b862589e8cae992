"""`gossamer edge enroll` and `rotate`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ...protocol.edge_pb2 import RunCard
from ...protocol.enrolment import parse_token
from ...protocol.errors import NotAdmitted
from ...protocol.identity import Identity, PeerId
from ...protocol.lock import held
from ..enrolment import enrol, hand_over
from ..folder import DeviceFolder
from ..network.client import EdgeNetwork
from ..network.pinning import Gateway, parse_target, pin_by_hash

_TIMEOUT_S = 15.0
BATCH = 32
SECONDS_PER_ENGINE = 0.2


def enroll(folder: Path, *, gateway: str, line: str, measure: bool = True) -> None:
    """Make a key if there is none, and trade the token for a place. Raises GossamerError.

    Args:
        measure: find out, in a few seconds, what evaluates the run's network the quickest here, unless it is known.
    """
    home = DeviceFolder(folder)
    card, peer = asyncio.run(_enroll(home, gateway, line))
    home.keep_network(card.network)
    network = home.network()
    if measure and network is not None and not home.has_choice:
        from .bench import quickest_for

        # In this process, which ends: what onnxruntime takes is not the daemon's where it is not chosen.
        home.keep_choice(quickest_for(network, batch=BATCH, seconds=SECONDS_PER_ENGINE))
    print(f"enrolled as {peer} for {card.task}: gossamer edge run --folder {folder}", file=sys.stderr)


async def _enroll(folder: DeviceFolder, address: str, line: str) -> tuple[RunCard, PeerId]:
    token = parse_token(line)
    host, port = parse_target(address)
    der = await pin_by_hash(
        host, port, expected_hash=token.certificate_hash, gateway=token.gateway, timeout_s=_TIMEOUT_S
    )
    gateway = Gateway(peer=token.gateway, run_id=token.run_id, host=host, port=port, certificate=der)
    client = EdgeNetwork(folder.identity(), gateway)
    try:
        card = await enrol(client, token)
    finally:
        await client.close()
    folder.keep_gateway(gateway)
    return card, client.peer_id


def rotate(folder: Path) -> None:
    """Replace the device's key. Interrupted at any point, calling it again completes it. Raises GossamerError."""
    home = DeviceFolder(folder)
    with held(home.path):  # a daemon that runs would go on with the old key
        asyncio.run(_rotate(home))


async def _rotate(folder: DeviceFolder) -> None:
    gateway, old = folder.gateway(), folder.identity()
    new = Identity.load_or_create(folder.next_key)
    client = EdgeNetwork(old, gateway, on_rotated=folder.keep_gateway)
    try:
        await hand_over(client, new, gateway=gateway.peer, run_id=gateway.run_id)
    except NotAdmitted:
        folder.next_key.unlink()
        raise
    finally:
        await client.close()
    folder.next_key.replace(folder.key)
    print(f"this device is now {new.peer_id}", file=sys.stderr)
