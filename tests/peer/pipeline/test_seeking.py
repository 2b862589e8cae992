"""How a newcomer comes to a state that a quorum vouches for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gossamer.peer.pipeline import seeking
from gossamer.peer.pipeline.present import Present
from gossamer.peer.pipeline.seeking import StageSeeker

from .test_vouching import PEERS, word


def test_who_was_offered_only_what_too_few_vouch_for_asks_for_another_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    async def ask_donors(*_: object, renew: bool) -> list[Any]:
        asked.append(renew)
        return [word(PEERS[0], 7)]

    async def ask_present(*_: object) -> Present:
        return Present(members=(), lost=frozenset(), answered=frozenset())

    async def choose(*_: object) -> int:
        return 0

    monkeypatch.setattr(seeking, "ask_donors", ask_donors)
    monkeypatch.setattr(seeking, "ask_present", ask_present)
    monkeypatch.setattr(StageSeeker, "_choose", choose)
    seeker: Any = object.__new__(StageSeeker)
    seeker._replica = SimpleNamespace(n_stages=1, settle=lambda stage: None, snapshot_bytes=lambda: 0)
    seeker._network, seeker._every_s = None, 0.2

    async def twice() -> list[object]:
        return [await StageSeeker._resync(cast(StageSeeker, seeker), {}) for _ in range(2)]

    assert asyncio.run(twice()) == [None, None]
    assert asked == [False, True]
