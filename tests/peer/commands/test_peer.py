"""How `gossamer peer` comes back."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from gossamer.peer.commands.peer import port_before
from gossamer.peer.network.addresses import free_port
from gossamer.protocol.identity import Identity

HOST = "127.0.0.1"


def _told(folder: Path, port: int) -> Path:
    address = f"/ip4/{HOST}/tcp/{port}/p2p/{Identity(bytes(32)).peer_id}"
    (folder / "addresses.json").write_text(json.dumps([address]))
    return folder


def test_who_comes_back_listens_where_it_did_unless_somebody_else_does(tmp_path: Path) -> None:
    assert port_before(tmp_path, HOST) == 0
    port = free_port(HOST)
    assert port_before(_told(tmp_path, port), HOST) == port
    with socket.create_server((HOST, 0)) as other:
        assert port_before(_told(tmp_path, other.getsockname()[1]), HOST) == 0


@pytest.mark.parametrize("damage", ["", "null", "[]", "{}", "[1]", '["/ip4"]', '{"0": 1}'])
def test_what_it_told_of_its_last_life_may_be_damaged(tmp_path: Path, damage: str) -> None:
    (tmp_path / "addresses.json").write_text(damage)
    assert port_before(tmp_path, HOST) == 0
