from __future__ import annotations

import pytest

from gossamer.protocol.errors import BadSignature, InvalidMessage
from gossamer.protocol.identity import Identity
from gossamer.protocol.transport.session import (
    LIFETIME_S,
    Ends,
    Sessions,
    challenge,
    check_proof,
    prove,
    read_welcome,
    welcome,
)

CLIENT = Identity(bytes(range(32)))
SERVER = Identity(bytes(reversed(range(32))))
ENDS = Ends(run_id="r", server=SERVER.peer_id, certificate=b"certificate")


def test_a_proof_names_its_maker_and_brings_its_contact() -> None:
    nonce, challenged = challenge("r")

    assert check_proof(prove(CLIENT, ENDS, challenged, b"contact"), ENDS, nonce) == (CLIENT.peer_id, b"contact")


@pytest.mark.parametrize(
    "ends",
    [
        Ends(run_id="s", server=ENDS.server, certificate=ENDS.certificate),
        Ends(run_id="r", server=CLIENT.peer_id, certificate=ENDS.certificate),
        Ends(run_id="r", server=ENDS.server, certificate=b"another"),
    ],
)
def test_a_proof_holds_for_one_run_server_and_certificate(ends: Ends) -> None:
    nonce, challenged = challenge("r")
    proof = prove(CLIENT, ENDS, challenged, b"")

    with pytest.raises(BadSignature):
        check_proof(proof, ends, nonce)


def test_a_proof_holds_for_one_nonce() -> None:
    _, challenged = challenge("r")
    another, _ = challenge("r")

    with pytest.raises(BadSignature):
        check_proof(prove(CLIENT, ENDS, challenged, b""), ENDS, another)


def test_a_challenge_of_another_run_is_not_answered() -> None:
    _, challenged = challenge("another")

    with pytest.raises(BadSignature, match="belongs to the run 'another'"):
        prove(CLIENT, ENDS, challenged, b"")


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x0a\x05abc"])
def test_nonsense_in_place_of_a_proof_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        check_proof(data, ENDS, bytes(32))


def test_a_session_ends_with_its_lifetime() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    token, lifetime_s = read_welcome(welcome(sessions.open(CLIENT.peer_id, "here")))

    session = sessions.find(token)
    now = LIFETIME_S

    assert lifetime_s == LIFETIME_S
    assert session is not None
    assert (session.peer, session.connection) == (CLIENT.peer_id, "here")
    assert sessions.find(token) is None


def test_one_peers_sessions_never_push_out_anothers() -> None:
    sessions = Sessions(lambda: 0.0)
    first = sessions.open(SERVER.peer_id, "server").hex()

    tokens = [sessions.open(CLIENT.peer_id, "client").hex() for _ in range(100)]

    assert sessions.find(first) is not None
    assert sum(sessions.find(token) is not None for token in tokens) == 8
    assert sessions.find(tokens[-1]) is not None
