"""A part being reduced: in pieces of any size, checked, and hashed on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
import pytest_asyncio

from gossamer.peer.rounds.pieces import F32, ReducedPart, Slice, raw
from gossamer.peer.rounds.reducing import NotFinite, Reducing, chunk_bytes
from gossamer.protocol.errors import ChecksumMismatch, InvalidMessage, MessageTooLarge, StaleRound

N = 300_000


def total(parts: Sequence[F32]) -> F32:
    result: F32 = np.sum(np.stack(parts), axis=0, dtype=np.float32)
    return result


def vectors(n: int) -> list[F32]:
    return [np.random.default_rng(seed).standard_normal(N).astype(np.float32) for seed in range(n)]


@pytest_asyncio.fixture
async def idle() -> asyncio.Task[None]:
    async def nothing() -> None:
        return

    return asyncio.get_running_loop().create_task(nothing())


@pytest.mark.asyncio
async def test_sum_flows_out_while_slices_still_come_in(idle: asyncio.Task[None]) -> None:
    given, result = vectors(2), np.empty(N, np.float32)
    late, size = Slice(N), chunk_bytes(4 * N)
    reducing = Reducing([Slice.whole(given[0]), late], 0, result, total)
    chunks = reducing.stream(idle)

    late.take(0, bytes(raw(given[1])[:size]))
    assert await reducing.ready() == size // 4
    reducing.advance(size // 4)
    first = await anext(chunks)
    late.take(size, bytes(raw(given[1])[size:]))
    assert await reducing.ready() == N
    reducing.advance(N)
    rest = [chunk async for chunk in chunks]

    expected = total(given).tobytes()
    assert first == expected[:size]
    assert first + b"".join(rest) == expected + hashlib.sha256(expected).digest()
    assert reducing.item.hash == rest[-1]


@pytest.mark.asyncio
async def test_contributor_of_nan_is_named() -> None:
    given = vectors(3)
    given[2][N - 1] = np.nan
    reducing = Reducing([Slice.whole(vector) for vector in given], 0, np.empty(N, np.float32), total)

    with pytest.raises(NotFinite) as caught:
        reducing.advance(N)

    assert caught.value.position == 2
    assert not reducing.done


@pytest.mark.asyncio
async def test_abandoned_reduction_ends_its_streams(idle: asyncio.Task[None]) -> None:
    reducing = Reducing([Slice(N)], None, np.empty(N, np.float32), total)
    chunks = reducing.stream(idle)

    reducing.abandon()

    with pytest.raises(StaleRound):
        await anext(chunks)
    assert await reducing.ready() is None


def test_slice_takes_what_is_new_and_refuses_gaps_and_excess() -> None:
    vector = vectors(1)[0]
    data = bytes(raw(vector))
    slice_ = Slice(N)

    assert slice_.take(0, data[:1000]) == 1000
    assert slice_.take(500, bytes(500) + data[1000:2000]) == 2000  # the first 500 are here already
    with pytest.raises(StaleRound):
        slice_.take(2001, b"x")
    with pytest.raises(MessageTooLarge):
        slice_.take(2000, bytes(len(data)))

    assert slice_.take(2000, data[2000:]) == len(data)
    assert slice_.complete
    assert np.array_equal(slice_.elements, vector)


def test_reduced_part_counts_only_with_its_hash() -> None:
    vector, place = vectors(1)[0], np.zeros(N, np.float32)
    data = bytes(raw(vector))
    part = ReducedPart(place)

    assert part.take(data[:777]) is None
    assert part.take(b"") is None  # a sign of life
    assert part.take(data[777:]) is None
    with pytest.raises(ChecksumMismatch):
        part.take(bytes(32))
    item = part.take(hashlib.sha256(data).digest())

    assert item is not None
    assert item.length == len(data)
    assert np.array_equal(place, vector)
    with pytest.raises(InvalidMessage):
        ReducedPart(place).take(bytes(len(data) + 1))
