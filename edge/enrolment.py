"""How a device gets its place at a gateway, and how it changes its key."""

from __future__ import annotations

from ..protocol import devices
from ..protocol.edge_pb2 import RunCard
from ..protocol.enrolment import Token, rotation_request
from ..protocol.errors import NotAdmitted
from ..protocol.identity import Identity, PeerId
from ..protocol.network import Client

_TIMEOUT_S = 30.0


async def enrol(client: Client, token: Token) -> RunCard:
    """Show the token; the run's card. May be called again: a token serves the same device as often as it asks.

    Raises: NotAdmitted, Expired, NetworkError, InvalidMessage.
    """
    answer = await client.call(token.gateway, devices.ENROL, token.request(client.peer_id), timeout_s=_TIMEOUT_S)
    return devices.read_card(answer, gateway=token.gateway, run_id=token.run_id)


async def hand_over(client: Client, new: Identity, *, gateway: PeerId, run_id: str) -> None:
    """Give this device's place to a new key. May be called again, also when the answer to an earlier call was lost.

    Raises: NotAdmitted, NetworkError.
    """
    request = rotation_request(new, run_id=run_id, gateway=gateway, old=client.peer_id)
    answer = await client.call(gateway, devices.ROTATE, request, timeout_s=_TIMEOUT_S)
    if answer != new.peer_id.encode():
        raise NotAdmitted(f"{gateway} did not take the new key: this device keeps the old one")
