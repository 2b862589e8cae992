import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.protocol.errors import InvalidMessage, UsageError
from gossamer.protocol.identity import Identity, PeerId, peer_id_of
from gossamer.protocol.invites import Invite, parse_invite

OWNER = Identity(b"\x01" * 32)
RUN = "0123456789abcdef" * 2
ADDRESSES = (f"/ip4/192.0.2.1/tcp/4001/p2p/{OWNER.peer_id}", f"/dns4/a-b.example.org/tcp/443/p2p/{OWNER.peer_id}")


def invite(
    run_id: str = RUN,
    owner: PeerId = OWNER.peer_id,
    addresses: tuple[str, ...] = ADDRESSES,
    secret: bytes = b"\x07" * 32,
) -> Invite:
    return Invite(run_id=run_id, owner=owner, addresses=addresses, secret=secret)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(1, 8))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_line_says_all_that_the_invite_does(secret: bytes, owner: bytes, n_addresses: int) -> None:
    made = invite(RUN, peer_id_of(owner), ADDRESSES[:1] * n_addresses, secret)

    assert parse_invite(made.line()) == made


def test_a_line_is_short_and_safe_to_paste() -> None:
    line = invite(addresses=ADDRESSES[:1]).line()

    assert line.startswith("gossamer1:")
    assert len(line) < 300
    assert line.isascii()
    assert not set(line) & set(" +/='\"\\$&?#")


def test_a_line_that_was_wrapped_by_a_mail_program_is_read() -> None:
    line = invite().line()

    assert parse_invite(f"  {line[:60]}\n> {line[60:]}\r\n".replace("> ", "  ")) == invite()


def test_a_line_cut_anywhere_is_said_to_be_cut_off() -> None:
    line = invite().line()

    for length in range(len("gossamer1:"), len(line)):
        with pytest.raises(UsageError, match="cut off"):
            parse_invite(line[:length])


def test_a_line_with_any_character_changed_is_refused() -> None:
    line = invite(addresses=ADDRESSES[:1]).line()

    for i in range(len("gossamer1:"), len(line) - 1):
        changed = line[:i] + ("A" if line[i] != "A" else "B") + line[i + 1 :]
        with pytest.raises(UsageError, match=r"cut off|damaged"):
            parse_invite(changed)


@pytest.mark.parametrize("line", ["", "hello", "gossamer2:AAAA", "/ip4/192.0.2.1/tcp/4001", "Gossamer1:AAAA"])
def test_what_is_no_invite_is_said_to_be_none(line: str) -> None:
    with pytest.raises(UsageError, match="is not an invite: paste the whole line, which starts with gossamer1:"):
        parse_invite(line)


@pytest.mark.parametrize("tail", ["é", "AA!A", "A=A="])
def test_foreign_characters_are_damage(tail: str) -> None:
    with pytest.raises(UsageError, match="damaged"):
        parse_invite(invite().line() + tail)


def test_bad_usage_exits_with_2() -> None:
    assert UsageError.exit_code == 2


def test_the_secret_is_not_shown_by_chance() -> None:
    assert "secret" not in repr(invite())
    assert base64.b64encode(b"\x07" * 9).decode() not in repr(invite())


@pytest.mark.parametrize(
    "address",
    [
        "",
        "192.0.2.1:4001",
        "/ip4/192.0.2.1/tcp/4001",
        "/ip4/192.0.2.1/tcp/4001/p2p/nobody",
        f"/ip4/192.0.2.1 /tcp/4001/p2p/{OWNER.peer_id}",
        f"/{'x' * 256}/p2p/{OWNER.peer_id}",
    ],
)
def test_an_address_that_nobody_could_dial_is_refused(address: str) -> None:
    with pytest.raises(InvalidMessage):
        invite(addresses=(address,))


def test_an_invite_needs_between_one_and_eight_addresses() -> None:
    for n_addresses in (0, 9):
        with pytest.raises(InvalidMessage, match=f"{n_addresses} bootstrap addresses"):
            invite(addresses=ADDRESSES[:1] * n_addresses)


def test_an_invite_needs_a_run_an_owner_and_a_secret() -> None:
    with pytest.raises(InvalidMessage, match="run id"):
        invite(run_id="x")
    with pytest.raises(InvalidMessage, match="peer id"):
        invite(owner=PeerId("x"))
    with pytest.raises(InvalidMessage, match="31 bytes"):
        invite(secret=bytes(31))
