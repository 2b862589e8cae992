"""A part being reduced: in pieces of any size, checked, and hashed on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
import pytest_asyncio

from gossamer.algorithms.errors import BadPart
from gossamer.algorithms.method import float_sum
from gossamer.peer.rounds.pieces import U8, ReducedPart, Slice
from gossamer.peer.rounds.reducing import Reducing, chunk_bytes
from gossamer.protocol.errors import ChecksumMismatch, InvalidMessage, MessageTooLarge, StaleRound

N = 300_000


def total(parts: Sequence[U8], start: int) -> U8:
    return float_sum(parts)


def vectors(n: int) -> list[U8]:
    return [np.random.default_rng(seed).standard_normal(N).astype(np.float32).view(np.uint8) for seed in range(n)]


@pytest_asyncio.fixture
async def idle() -> asyncio.Task[None]:
    async def nothing() -> None:
        return

    return asyncio.get_running_loop().create_task(nothing())


@pytest.mark.asyncio
async def test_sum_flows_out_while_slices_still_come_in(idle: asyncio.Task[None]) -> None:
    given, result = vectors(2), np.empty(4 * N, np.uint8)
    late, size = Slice(4 * N), chunk_bytes(4 * N)
    reducing = Reducing([Slice.whole(given[0]), late], 0, 4, result, total)
    chunks = reducing.stream(idle)

    late.take(0, given[1][:size].tobytes())
    assert await reducing.ready() == size // 4
    reducing.advance(size // 4)
    first = await anext(chunks)
    late.take(size, given[1][size:].tobytes())
    assert await reducing.ready() == N
    reducing.advance(N)
    rest = [chunk async for chunk in chunks]

    expected = total(given, 0).tobytes()
    assert first == expected[:size]
    assert first + b"".join(rest) == expected + hashlib.sha256(expected).digest()
    assert reducing.item.hash == rest[-1]


@pytest.mark.asyncio
async def test_contributor_of_nan_is_named() -> None:
    given = vectors(3)
    given[2].view(np.float32)[N - 1] = np.nan
    reducing = Reducing([Slice.whole(vector) for vector in given], 0, 4, np.empty(4 * N, np.uint8), total)

    with pytest.raises(BadPart) as caught:
        reducing.advance(N)

    assert caught.value.position == 2
    assert not reducing.done


@pytest.mark.asyncio
async def test_abandoned_reduction_ends_its_streams(idle: asyncio.Task[None]) -> None:
    reducing = Reducing([Slice(4 * N)], 0, 4, np.empty(4 * N, np.uint8), total)
    chunks = reducing.stream(idle)

    reducing.abandon()

    with pytest.raises(StaleRound):
        await anext(chunks)
    assert await reducing.ready() is None


def test_slice_takes_what_is_new_and_refuses_gaps_and_excess() -> None:
    vector = vectors(1)[0]
    data = vector.tobytes()
    slice_ = Slice(4 * N)

    assert slice_.take(0, data[:1000]) == 1000
    assert slice_.take(500, bytes(500) + data[1000:2000]) == 2000  # the first 500 are here already
    with pytest.raises(StaleRound):
        slice_.take(2001, b"x")
    with pytest.raises(MessageTooLarge):
        slice_.take(2000, bytes(len(data)))

    assert slice_.take(2000, data[2000:]) == len(data)
    assert slice_.complete
    assert np.array_equal(slice_.data, vector)


def test_reduced_part_counts_only_with_its_hash() -> None:
    vector, place = vectors(1)[0], np.zeros(4 * N, np.uint8)
    data = vector.tobytes()
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


@pytest.mark.asyncio
async def test_units_of_other_sizes_are_reduced_whole_and_know_their_numbers(idle: asyncio.Task[None]) -> None:
    unit, n_units, first = 260, 1200, 70
    numbers: list[tuple[int, int]] = []

    def sender_of_most(parts: Sequence[U8], start: int) -> U8:
        numbers.append((start, len(parts[0])))
        return np.maximum(parts[0], parts[1])

    given = [np.random.default_rng(seed).integers(0, 255, unit * n_units, np.uint8) for seed in range(2)]
    late = Slice(unit * n_units)
    reducing = Reducing([Slice.whole(given[0]), late], first, unit, np.empty(unit * n_units, np.uint8), sender_of_most)
    offset = 0
    for size in (70_001, 90_000, len(given[1])):  # between units or not
        offset = late.take(offset, given[1][offset : offset + size].tobytes())
        stop = await reducing.ready()
        assert stop == offset // unit
        reducing.advance(stop)

    sent = b"".join([chunk async for chunk in reducing.stream(idle)])

    expected = np.maximum(*given).tobytes()
    assert sent == expected + hashlib.sha256(expected).digest()
    assert numbers[0] == (first, 70_001 // unit * unit)
    assert all(n_bytes % unit == 0 for _, n_bytes in numbers)
