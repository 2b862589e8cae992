"""Daemons that take more memory than they may are ended with the reason."""

from __future__ import annotations

import asyncio

import pytest

from gossamer.peer.commands.memory_cap import within
from gossamer.protocol.errors import GossamerError


async def answer() -> int:
    return 42


def test_a_life_within_its_memory_ends_as_it_would() -> None:
    assert asyncio.run(within(None, answer())) == 42
    assert asyncio.run(within(1 << 40, answer())) == 42


def test_a_life_that_takes_more_is_ended_with_what_it_took() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    with pytest.raises(GossamerError, match=r"took .* MB, and --max-memory allows 1 MB"):
        asyncio.run(asyncio.wait_for(within(1_000_000, forever()), 30))

    assert ended == ["cleaned up"]
