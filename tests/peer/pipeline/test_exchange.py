"""Offers within a stage: each is for a plan, whoever else offers the same bytes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from gossamer.peer.pipeline.exchange import StageExchange
from gossamer.peer.rounds.decision import Item
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol.identity import Identity

PAYLOAD = b"the same of all"
ITEM = Item.of(PAYLOAD)
PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(3))


def test_a_fellows_equal_bytes_for_an_older_plan_do_not_make_an_offer_old() -> None:
    async def offers() -> dict[int, int]:
        exchange = _exchange(attempt=2)
        StageExchange._admit(exchange, 1, ITEM, 1)
        StageExchange._keep(exchange, 0, ITEM, PAYLOAD)
        StageExchange._admit(exchange, 2, ITEM, 2)
        StageExchange._admit(exchange, 2, ITEM, 1)  # an older message that was under way
        StageExchange._keep(exchange, 2, ITEM, PAYLOAD)
        return exchange._attempts

    assert asyncio.run(offers()) == {0: 2, 2: 2}


def _exchange(attempt: int) -> StageExchange:
    roster = Roster.of(Member(peer, 1, 0) for peer in PEERS)
    round_ = SimpleNamespace(place=SimpleNamespace(roster=roster), note_arrival=lambda slot: None)
    fields = {"_round": round_, "_stage": 0, "_announced": {}, "_bytes": {}, "_held": {}, "_attempts": {}}
    return cast(StageExchange, SimpleNamespace(attempt=attempt, **fields))
