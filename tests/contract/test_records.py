"""Records: published by one, found by all, replaced by their signer, gone when they expire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gossamer.protocol.errors import InvalidMessage, MessageTooLarge
from gossamer.protocol.network import MAX_RECORD_BYTES, Network, Record
from gossamer.protocol.records import MAX_LIFETIME_S

from .world import PATIENCE_S, World


async def find(network: Network, key: str, enough: Callable[[list[Record]], bool]) -> list[Record]:
    """Look up until what is found is enough."""
    async with asyncio.timeout(PATIENCE_S):
        while not enough(found := await network.lookup(key)):  # noqa: ASYNC110 - a DHT does not tell
            await asyncio.sleep(0.1)
    return found


def test_record_is_found_by_others_with_its_signer_and_expiry(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        before_s = a.unix_time_s()

        await a.publish("key", b"value", ttl_s=60)

        (record,) = await find(b, "key", bool)
        assert (record.key, record.signer, record.value) == ("key", a.peer_id, b"value")
        assert before_s + 60 <= record.expires_at_s <= a.unix_time_s() + 60
        assert [mine.value for mine in await a.lookup("key")] == [b"value"]
        assert await b.lookup("another key") == []

    world.run(scenario)


def test_newer_record_of_a_signer_replaces_the_older(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        for number in range(3):
            await a.publish("key", b"%d" % number, ttl_s=60 - number)

        (record,) = await find(b, "key", lambda found: [record.value for record in found] == [b"2"])

        assert record.signer == a.peer_id

    world.run(scenario)


def test_records_of_several_signers_come_in_the_order_of_signers(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        for network in networks:
            await network.publish("key", network.peer_id.encode(), ttl_s=60)

        for network in networks:
            found = await find(network, "key", lambda found: len(found) == len(networks))

            assert [record.signer for record in found] == sorted(network.peer_id for network in networks)
            assert [record.value.decode() for record in found] == [record.signer for record in found]

    world.run(scenario, n_peers=3)


def test_record_disappears_when_it_expires(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        await a.publish("key", b"value", ttl_s=3)
        (record,) = await find(b, "key", bool)

        await find(b, "key", lambda found: not found)

        assert b.unix_time_s() >= record.expires_at_s

    world.run(scenario)


def test_longest_value_is_found_and_longer_ones_are_refused(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks

        await a.publish("key", b"v" * MAX_RECORD_BYTES, ttl_s=60)
        with pytest.raises(MessageTooLarge):
            await a.publish("key", b"v" * (MAX_RECORD_BYTES + 1), ttl_s=60)

        (record,) = await find(b, "key", bool)
        assert record.value == b"v" * MAX_RECORD_BYTES

    world.run(scenario)


def test_lifetimes_that_others_would_not_grant_are_refused_at_once(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        for ttl_s in (0.0, -1.0, 2 * MAX_LIFETIME_S, float("nan")):
            with pytest.raises(InvalidMessage, match="more than 0 and at most 86400"):
                await networks[0].publish("key", b"value", ttl_s=ttl_s)

        assert await networks[1].lookup("key") == []

    world.run(scenario)
