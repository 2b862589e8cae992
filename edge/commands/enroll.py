"""`gossamer edge enroll` and `rotate`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ...protocol.enrolment import parse_token
from ...protocol.errors import NotAdmitted
from ...protocol.identity import Identity
from ..enrolment import enrol, hand_over
from ..folder import DeviceFolder
from ..network.client import EdgeNetwork
from ..network.pinning import Gateway, parse_target, pin_by_hash

_TIMEOUT_S = 15.0


def enroll(folder: Path, *, gateway: str, line: str) -> None:
    """Make a key if there is none, and trade the token for a place. Raises GossamerError."""
    asyncio.run(_enroll(DeviceFolder(folder), gateway, line))


async def _enroll(folder: DeviceFolder, address: str, line: str) -> None:
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
    print(f"enrolled as {client.peer_id} for {card.task}: gossamer edge run --folder {folder.path}", file=sys.stderr)


def rotate(folder: Path) -> None:
    """Replace the device's key. Interrupted at any point, calling it again completes it. Raises GossamerError."""
    asyncio.run(_rotate(DeviceFolder(folder)))


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
