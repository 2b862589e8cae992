"""A device and a gateway over TLS: who is believed, and what happens when a certificate changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gossamer.edge.network import EdgeNetwork, Gateway
from gossamer.edge.network.pinning import parse_target, pin_by_hash
from gossamer.peer.network.front import Front, parse_listen
from gossamer.protocol.errors import BadSignature, InvalidMessage, PeerUnreachable, UsageError
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.transport.certificates import create_certificate, renew_certificate

RUN_ID = "0" * 32
GATEWAY, DEVICE, IMPOSTOR = (Identity(name.ljust(32)) for name in (b"gateway", b"device", b"impostor"))


async def echo(peer: PeerId, request: bytes) -> bytes:
    return request


async def front_of(identity: Identity, folder: Path, port: int = 0) -> Front:
    front = await Front.open(identity, run_id=RUN_ID, folder=folder, host="127.0.0.1", port=port)
    front.serve("echo", echo)
    front.set_gate(lambda peer: peer == DEVICE.peer_id)
    return front


def gateway_at(front: Front) -> Gateway:
    return Gateway(
        peer=GATEWAY.peer_id, run_id=RUN_ID, host="127.0.0.1", port=front.port, certificate=front.certificate.der
    )


async def test_device_comes_back_after_the_gateway_was_restarted(tmp_path: Path) -> None:
    front = await front_of(GATEWAY, tmp_path)
    client = EdgeNetwork(DEVICE, gateway_at(front))
    assert await client.call(GATEWAY.peer_id, "echo", b"1", timeout_s=10) == b"1"

    await front.close()
    with pytest.raises(PeerUnreachable):
        await client.call(GATEWAY.peer_id, "echo", b"2", timeout_s=10)
    again = await front_of(GATEWAY, tmp_path, front.port)

    assert await client.call(GATEWAY.peer_id, "echo", b"3", timeout_s=10) == b"3"
    await client.close()
    await again.close()


async def test_device_follows_a_certificate_that_its_gateway_has_signed(tmp_path: Path) -> None:
    front = await front_of(GATEWAY, tmp_path)
    kept: list[Gateway] = []
    client = EdgeNetwork(DEVICE, gateway_at(front), on_rotated=kept.append)
    await front.close()
    renewed = renew_certificate(tmp_path, GATEWAY)

    again = await front_of(GATEWAY, tmp_path, front.port)
    assert await client.call(GATEWAY.peer_id, "echo", b"x", timeout_s=10) == b"x"

    assert [gateway.certificate for gateway in kept] == [renewed.der]
    await client.close()
    await again.close()


async def test_device_tells_nothing_to_an_impostor(tmp_path: Path) -> None:
    front = await front_of(GATEWAY, tmp_path / "gateway")
    gateway = gateway_at(front)
    await front.close()
    impostor = await front_of(IMPOSTOR, tmp_path / "impostor", front.port)
    client = EdgeNetwork(DEVICE, gateway)

    with pytest.raises(BadSignature, match="not signed"):
        await client.call(GATEWAY.peer_id, "echo", b"secret", timeout_s=10)

    assert impostor.traffic.received == {}
    await client.close()
    await impostor.close()


async def test_token_pins_the_certificate_or_one_that_the_gateway_signed_since(tmp_path: Path) -> None:
    front = await front_of(GATEWAY, tmp_path)
    der = front.certificate.der

    async def pinned(expected_hash: bytes, gateway: Identity) -> bytes:
        return await pin_by_hash(
            "127.0.0.1", front.port, expected_hash=expected_hash, gateway=gateway.peer_id, timeout_s=10
        )

    assert await pinned(hashlib.sha256(der).digest(), GATEWAY) == der
    assert await pinned(bytes(32), GATEWAY) == der
    with pytest.raises(BadSignature):
        await pinned(bytes(32), IMPOSTOR)
    await front.close()


async def test_certificate_that_nobody_signed_is_not_followed(tmp_path: Path) -> None:
    bare = Front(GATEWAY, RUN_ID, create_certificate())
    bare.port = await bare._server.start("127.0.0.1", 0, bare.certificate)

    with pytest.raises(InvalidMessage, match="has not signed"):
        await pin_by_hash("127.0.0.1", bare.port, expected_hash=bytes(32), gateway=GATEWAY.peer_id, timeout_s=10)
    await bare.close()


async def test_gateways_key_and_certificate_are_for_its_owner_only(tmp_path: Path) -> None:
    front = await front_of(GATEWAY, tmp_path)

    assert (tmp_path / "certificate.pem").stat().st_mode & 0o077 == 0
    await front.close()


@pytest.mark.parametrize("text", ["", "host", ":80", "host:0", "host:99999", "host:port"])
def test_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)


def test_addresses_are_read() -> None:
    assert parse_target("gateway.example:7700") == ("gateway.example", 7700)
    assert parse_target("[2001:db8::1]:7700") == ("2001:db8::1", 7700)
    assert parse_listen("0.0.0.0:7700") == ("0.0.0.0", 7700)
    assert parse_listen("7700") == ("127.0.0.1", 7700)
    with pytest.raises(UsageError):
        parse_listen("host")
