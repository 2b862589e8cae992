from __future__ import annotations

import asyncio

import pytest

from gossamer.peer.network.frames import Kind, failure, opening, read_failure, read_frame, read_opening
from gossamer.protocol.errors import InvalidMessage, MessageTooLarge, PeerUnreachable
from gossamer.protocol.network import MAX_CHUNK_BYTES


def arrived(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


def header(kind: int, length: int) -> bytes:
    return bytes([kind]) + length.to_bytes(4, "big")


async def test_a_frame_is_read_with_its_kind() -> None:
    assert await read_frame(arrived(header(Kind.CHUNK, 3) + b"abc")) == (Kind.CHUNK, b"abc")


@pytest.mark.parametrize(
    ("kind", "length"), [(Kind.CHUNK, MAX_CHUNK_BYTES + 1), (Kind.OPEN, 1 << 12), (Kind.END, 1), (Kind.FAIL, 1 << 20)]
)
async def test_a_length_beyond_its_kinds_bound_is_refused_before_anything_is_read(kind: Kind, length: int) -> None:
    with pytest.raises(MessageTooLarge):
        await read_frame(arrived(header(kind, length)))


async def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="unknown kind 9"):
        await read_frame(arrived(header(9, 0)))


@pytest.mark.parametrize("data", [b"", b"\x02", header(Kind.CHUNK, 3) + b"ab"])
async def test_a_stream_that_ends_within_a_frame_was_given_up(data: bytes) -> None:
    with pytest.raises(PeerUnreachable):
        await read_frame(arrived(data))


def test_opening_and_failure_survive_the_wire() -> None:
    assert read_opening(opening("state", streaming=True)) == ("state", True)
    assert read_failure(failure("stale-round", "round 3 is over")) == ("stale-round", "round 3 is over")
