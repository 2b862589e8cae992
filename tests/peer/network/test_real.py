from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from gossamer.peer.network import NetworkConfig, RealNetwork
from gossamer.peer.network.addresses import free_port, transport_of
from gossamer.protocol.errors import (
    BadSignature,
    BootstrapFailed,
    NetworkClosed,
    PeerUnreachable,
    PortInUse,
    StateError,
    UsageError,
)
from gossamer.protocol.identity import Identity, PeerId
from gossamer.tests.peer.network.fleet import Fleet, echo, until

_PROCESS = Path(__file__).with_name("network_process.py")


def address(identity: Identity, port: int) -> str:
    return f"{transport_of('127.0.0.1', port)}/p2p/{identity.peer_id}"


async def sees(network: RealNetwork, key: str, signers: list[PeerId]) -> bool:
    return [record.signer for record in await network.lookup(key)] == sorted(signers)


# -- finding each other ------------------------------------------------------------------------------------------


async def test_peers_that_start_at_once_with_one_list_end_in_one_dht() -> None:
    identities = [Identity.generate() for _ in range(4)]
    ports = [free_port("127.0.0.1") for _ in identities]
    shared = tuple(address(identity, port) for identity, port in zip(identities, ports, strict=True))

    async with Fleet() as fleet:
        networks = await asyncio.gather(
            *(
                # Without gRPC: its ports, taken at random, might be among those that were found free.
                fleet.open(identity, p2p_port=port, bootstrap=shared, grpc=False)
                for identity, port in zip(identities, ports, strict=True)
            )
        )
        await asyncio.gather(*(network.publish("here", b"", ttl_s=60) for network in networks))

        for network in networks:
            await until(lambda network=network: sees(network, "here", [each.peer_id for each in networks]))  # type: ignore[misc]
        assert [len((await network.health()).bootstrap) for network in networks] == [3, 3, 3, 3]


async def test_two_dhts_merge_when_a_listed_address_comes_alive() -> None:
    late = Identity.generate()
    port = free_port("127.0.0.1")

    async with Fleet() as fleet:
        early = Identity.generate()
        early_port = free_port("127.0.0.1")
        listed = (address(early, early_port), address(late, port))
        a = await fleet.open(early, p2p_port=early_port, bootstrap=listed, grpc=False)
        await a.publish("here", b"a", ttl_s=60)
        b = await fleet.open(late, p2p_port=port, grpc=False)  # a first peer of its own: it looks for nobody
        await b.publish("here", b"b", ttl_s=60)

        await until(lambda: sees(b, "here", [a.peer_id, b.peer_id]))
        await until(lambda: sees(a, "here", [a.peer_id, b.peer_id]))


async def test_a_dead_bootstrap_address_among_living_ones_is_reported_and_not_waited_for() -> None:
    dead = address(Identity.generate(), free_port("127.0.0.1"))

    async with Fleet() as fleet:
        a = await fleet.open()
        async with asyncio.timeout(10):
            b = await fleet.open(bootstrap=(dead, *a.addresses()), startup_timeout_s=30)

        states = {state.address: state for state in (await b.health()).bootstrap}
        assert states[a.addresses()[0]].answered
        assert not states[dead].answered
        assert states[dead].error == "connection refused"


async def test_no_living_bootstrap_address_fails_and_names_each() -> None:
    dead = [address(Identity.generate(), free_port("127.0.0.1")) for _ in range(2)]

    async with Fleet() as fleet:
        with pytest.raises(BootstrapFailed) as failure:
            await fleet.open(bootstrap=tuple(dead), startup_timeout_s=4)

    assert all(f"{each}: connection refused" in str(failure.value) for each in dead)


async def test_a_bootstrap_address_of_another_program_is_told_from_a_dead_one() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stranger = address(Identity.generate(), server.sockets[0].getsockname()[1])

    async with Fleet() as fleet:
        with pytest.raises(BootstrapFailed) as failure:
            await fleet.open(bootstrap=(stranger,), startup_timeout_s=4)
    server.close()

    assert "connection refused" not in str(failure.value)


async def test_a_peer_that_restarts_on_other_ports_is_found() -> None:
    identity = Identity.generate()

    async with Fleet() as fleet:
        a = await fleet.open()
        b = await fleet.open(identity, bootstrap=tuple(a.addresses()))
        b.serve("echo", echo)
        assert await a.call(b.peer_id, "echo", b"1", timeout_s=10) == b"1"

        await b.close()
        b = await fleet.open(identity, bootstrap=tuple(a.addresses()))
        b.serve("echo", echo)

        assert await a.call(b.peer_id, "echo", b"2", timeout_s=10) == b"2"


async def test_a_peer_of_another_run_is_refused() -> None:
    async with Fleet() as fleet:
        a = await fleet.open()
        b = await fleet.open(bootstrap=tuple(a.addresses()), run_id="another-run")
        b._contacts._known[a.peer_id] = (1, a._contact())  # as if a stale record had been found

        with pytest.raises(BadSignature, match="belongs to the run 'a-run'"):
            await b.call(a.peer_id, "echo", b"", timeout_s=10)


# -- ports, files, processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["grpc_port", "p2p_port"])
async def test_a_port_in_use_is_named_with_the_remedy(option: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]

        async with Fleet() as fleet:
            with pytest.raises(PortInUse, match=f"127.0.0.1:{port}.*in use.*choose another"):
                await fleet.open(**{option: port})


async def test_a_key_file_of_somebody_else_is_refused() -> None:
    async with Fleet() as fleet:
        other = fleet.key_file(Identity.generate())

        with pytest.raises(StateError, match="another identity"):
            await fleet.open(identity_path=other)


def test_a_bootstrap_address_that_is_none_is_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match="expected /ip4/HOST/tcp/PORT/p2p/PEER_ID"):
        NetworkConfig(run_id="r", identity_path=Path("key"), bootstrap=("127.0.0.1:4001",))


async def test_closing_leaves_neither_process_nor_task_nor_socket() -> None:
    before = asyncio.all_tasks()

    async with Fleet() as fleet:
        a, b = await fleet.pair()
        b.serve("echo", echo)
        await a.call(b.peer_id, "echo", b"", timeout_s=10)
        children = psutil.Process().children()

    assert len(children) == 2
    assert not any(child.is_running() for child in children)
    assert [task for task in asyncio.all_tasks() if task not in before] == []
    with pytest.raises(NetworkClosed):
        await a.call(b.peer_id, "echo", b"", timeout_s=10)


@pytest.mark.system
def test_the_libp2p_daemon_ends_with_its_killed_parent() -> None:
    with subprocess.Popen([sys.executable, _PROCESS, "hang"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        daemon = psutil.Process(int(process.stdout.readline()))

        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)

        psutil.wait_procs([daemon], timeout=10)
        assert not daemon.is_running()


@pytest.mark.system
def test_a_process_that_used_the_network_exits_silently() -> None:
    outcome = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", _PROCESS, "exit"],
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert outcome.returncode == 0
    assert outcome.stderr == ""


# -- the libp2p daemon dies alone --------------------------------------------------------------------------------


async def test_a_killed_libp2p_daemon_is_replaced_and_calls_go_on() -> None:
    async with Fleet() as fleet:
        a, b = await fleet.pair()
        b.serve("echo", echo)
        await b.publish("here", b"before", ttl_s=60)
        await a.call(b.peer_id, "echo", b"", timeout_s=10)
        told: list[str] = []
        b.on_lost = told.append
        before = await b.health()
        assert before.p2pd_pid is not None

        os.kill(before.p2pd_pid, signal.SIGKILL)

        await until(lambda: has_restarted(b))
        assert await a.call(b.peer_id, "echo", b"x", timeout_s=10) == b"x"
        assert str(before.p2pd_pid) in told[0]
        assert b.addresses() == list(before.addresses)
        await until(lambda: sees(a, "here", [b.peer_id]))
        await a.publish("here", b"after", ttl_s=60)
        await until(lambda: sees(b, "here", [a.peer_id, b.peer_id]))


async def test_calls_over_libp2p_work_again_after_the_daemon_was_replaced() -> None:
    async with Fleet() as fleet:
        a, b = await fleet.pair(grpc=False)
        b.serve("echo", echo)
        pid = (await b.health()).p2pd_pid
        assert pid is not None

        os.kill(pid, signal.SIGKILL)
        await until(lambda: has_restarted(b))

        await until(lambda: answers(a, b.peer_id))


async def has_restarted(network: RealNetwork) -> bool:
    health = await network.health()
    return health.p2pd_restarts == 1 and health.p2pd_alive and health.dht_neighbours > 0


async def answers(network: RealNetwork, peer: PeerId) -> bool:
    try:
        return await network.call(peer, "echo", b"x", timeout_s=5) == b"x"
    except PeerUnreachable:
        return False


# -- a peer that nobody can dial ---------------------------------------------------------------------------------


async def test_an_undialable_peer_is_served_and_serves_over_connections_of_its_own() -> None:
    async def count(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield b"%d" % sum([len(chunk) async for chunk in chunks])

    async def megabytes() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield bytes(1 << 20)

    async with Fleet() as fleet:
        a = await fleet.open()
        b = await fleet.open(bootstrap=tuple(a.addresses()))
        hidden = await fleet.open(bootstrap=tuple(a.addresses()), dialable=False)
        for network in (a, b, hidden):
            network.serve("echo", echo)
        hidden.serve_stream("count", count)

        assert hidden.addresses() == []
        assert await hidden.call(b.peer_id, "echo", b"out", timeout_s=10) == b"out"
        for caller in (a, b):
            await until(lambda caller=caller: answers(caller, hidden.peer_id))  # type: ignore[misc]
        assert [chunk async for chunk in b.stream(hidden.peer_id, "count", megabytes(), timeout_s=10)] == [b"5242880"]


async def test_an_undialable_peer_opens_its_lost_connections_again() -> None:
    async with Fleet() as fleet:
        a = await fleet.open()
        hidden = await fleet.open(bootstrap=tuple(a.addresses()), dialable=False)
        hidden.serve("echo", echo)
        await until(lambda: answers(a, hidden.peer_id))
        pid = (await a.health()).p2pd_pid
        assert pid is not None

        os.kill(pid, signal.SIGKILL)

        await until(lambda: answers(a, hidden.peer_id))


async def test_a_peer_that_is_gone_is_unreachable_at_once() -> None:
    async with Fleet() as fleet:
        a, b = await fleet.pair()
        await b.close()
        stranger = Identity.generate().peer_id

        async with asyncio.timeout(8):
            for peer in (b.peer_id, stranger):
                with pytest.raises(PeerUnreachable, match=peer):
                    await a.call(peer, "echo", b"", timeout_s=20)
