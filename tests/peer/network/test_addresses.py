from __future__ import annotations

import pytest

from gossamer.peer.network.addresses import parse_address, transport_of
from gossamer.protocol.errors import UsageError
from gossamer.protocol.identity import Identity

PEER = Identity(bytes(32)).peer_id


@pytest.mark.parametrize("host", ["10.0.0.1", "::1", "peer.example.org"])
def test_an_address_is_read_as_it_was_written(host: str) -> None:
    text = f"{transport_of(host, 4001)}/p2p/{PEER}"

    address = parse_address(text)

    assert (address.host, address.port, address.peer) == (host, 4001, PEER)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.1:4001",
        "/ip4/10.0.0.1/tcp/4001",
        f"/ip4/10.0.0.1/tcp/0/p2p/{PEER}",
        f"/ip4/10.0.0.1/tcp/65536/p2p/{PEER}",
        f"/ip4/10.0.0.1/tcp/-1/p2p/{PEER}",
        f"/ip4/10.0.0.300/tcp/4001/p2p/{PEER}",
        f"/ip4/10.0.0.1/udp/4001/p2p/{PEER}",
        "/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWnobody",
        f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER}/p2p/{PEER}",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)
