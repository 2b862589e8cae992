import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.protocol.errors import BadSignature, InsecureKeyFile, InvalidMessage, StateError
from gossamer.protocol.identity import Identity, parse_peer_id, peer_id_of, public_key_of, verify

ALICE = Identity(b"\x01" * 32)
BOB = Identity(b"\x02" * 32)


def test_the_peer_id_is_libp2ps() -> None:
    # The public key of RFC 8032 section 7.1, test 1.
    identity = Identity(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))

    assert identity.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert identity.peer_id.startswith("12D3KooW")
    assert public_key_of(identity.peer_id) == identity.public_key


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_peer_id_holds_its_public_key(public_key: bytes) -> None:
    assert public_key_of(peer_id_of(public_key)) == public_key


@pytest.mark.parametrize("text", ["", "x", "12D3KooW", "0OIl", "Qm" + "a" * 44, "1" * 10_000, "é" * 52, "\ud800"])
def test_what_is_no_peer_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidMessage, match="not an Ed25519 peer id"):
        parse_peer_id(text)


def test_a_peer_id_has_one_spelling() -> None:
    assert parse_peer_id(ALICE.peer_id + " ") == ALICE.peer_id


@given(st.binary(max_size=200), st.integers(0, 511))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_signature_holds_for_its_signer_use_and_payload_only(payload: bytes, bit: int) -> None:
    signature = ALICE.sign("record", payload)
    flipped = bytes(byte ^ (1 << bit % 8 if i == bit // 8 else 0) for i, byte in enumerate(signature))

    verify(ALICE.peer_id, "record", payload, signature)

    for args in [
        (BOB.peer_id, "record", payload, signature),
        (ALICE.peer_id, "ticket", payload, signature),
        (ALICE.peer_id, "record", payload + b"\0", signature),
        (ALICE.peer_id, "record", payload, flipped),
        (ALICE.peer_id, "record", payload, signature[:-1]),
        (ALICE.peer_id, "record", payload, b""),
    ]:
        with pytest.raises(BadSignature, match=r"is not signed by 12D3"):
            verify(*args)


def test_a_domain_and_its_payload_cannot_be_shifted_into_each_other() -> None:
    signature = ALICE.sign("record", b"s")

    with pytest.raises(BadSignature):
        verify(ALICE.peer_id, "records", b"", signature)


def test_a_key_file_is_private_and_loads_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "identity.key"

    made = Identity.load_or_create(path)
    loaded = Identity.load_or_create(path)

    assert loaded.peer_id == made.peer_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes()[:4] == b"\x08\x01\x12\x40"  # libp2p's protobuf: type 1 (Ed25519), 64 bytes


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    ALICE.save(tmp_path / "key")

    with pytest.raises(FileExistsError):
        BOB.save(tmp_path / "key")

    assert Identity.load(tmp_path / "key").peer_id == ALICE.peer_id


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ALICE.save(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)

    with pytest.raises(InsecureKeyFile, match=r"mode 640\): chmod 600"):
        Identity.load(tmp_path / "key")


@pytest.mark.parametrize("data", [b"", b"-----BEGIN", b"\x08\x01\x12\x40" + bytes(63), b"\x08\x02\x12\x40" + bytes(64)])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)

    with pytest.raises(StateError, match="not an Ed25519 key"):
        Identity.load(path)


def test_a_key_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        Identity.load(tmp_path / "nowhere")
