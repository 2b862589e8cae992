"""`Network` on modelled wires: the same contract as the real one, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import TypeVar

from ..protocol.errors import GossamerError, NetworkClosed, PeerTimeout, PeerUnreachable, error_from_wire
from ..protocol.identity import Identity, PeerId
from ..protocol.network import MAX_MESSAGE_BYTES, Cost, Gate, Handler, Network, Record, StreamHandler, Traffic
from ..protocol.records import CheckedRecord, check_lifetime, signed_record_bytes
from .alarms import Alarms
from .cores import Thread
from .directory import Directory
from .eager import begin
from .fabric import Fabric, Tamper
from .loop import VirtualLoop
from .messages import CALL, END, FAIL, STREAM, Message
from .port import Port
from .processor import Processor
from .serving import Served, Services, check_size, send_all
from .session import dial

T = TypeVar("T")

_DHT = "dht"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a network needs of the host that it runs on."""

    name: str
    identity: Identity
    processor: Processor
    unix_time_s: Callable[[], float]
    thread: Thread | None
    run_id: str
    """Whose records it sees in the DHT, if several runs share it; empty: there is one run."""
    context: Context
    """Tasks that serve requests run in copies of it, so that they belong to the host."""


class SimulatedNetwork(Network):
    """One incarnation of a peer on the simulated internet. Made by `Host`."""

    def __init__(self, fabric: Fabric, directory: Directory, machine: Machine) -> None:
        self.peer_id = machine.identity.peer_id
        self.host = machine.name
        self.traffic = Traffic()
        self.ports: dict[Port, None] = {}
        self.closed = False
        self.silent = False
        self.thread = machine.thread
        self.tamper: Tamper | None = None
        """Makes this a faulty or lying machine: what it sends goes through here."""
        self._fabric = fabric
        self._directory = directory
        self._machine = machine
        self._services = Services(fabric.failures)
        self._serving: dict[Port, asyncio.Task[object]] = {}
        self._sequence = 0
        self._alarms = Alarms(fabric.loop)
        """Of what is asked from here."""
        self.life = fabric.enter(self)
        directory.enter(self.host)

    # ------------------------------------------------------------------------------------------------------- serving

    def serve(self, method: str, handler: Handler, *, public: bool = False) -> None:
        self._require_open()
        self._services.add(method, Served(handler=handler, public=public))

    def serve_stream(self, method: str, handler: StreamHandler, *, public: bool = False) -> None:
        self._require_open()
        self._services.add(method, Served(stream_handler=handler, public=public))

    def set_gate(self, gate: Gate) -> None:
        self._services.gate = gate

    def accept(self, port: Port, opening: Message) -> None:
        """A request has arrived: answer it, in a task of the host's if that takes time, as every stream does."""
        loop, name, context = self._fabric.loop, f"{self.host} serves {port.method}", self._machine.context.copy()
        answer, task = self._answer(port, opening), None
        if opening.kind is CALL:
            task = begin(loop, answer, name=name, context=context)
            if task is None:
                return
        else:
            task = loop.create_task(answer, name=name, context=context)
        self._serving[port] = task
        port.on_failure = task.cancel
        if port.has_failed:  # meanwhile, as when the handler ends its own network
            task.cancel()

    async def _answer(self, port: Port, opening: Message) -> None:
        try:
            await self._services.answer(port, opening)
            port.finish()
        except GossamerError:
            return  # the caller left before it heard the answer: nobody to tell
        finally:
            port.close()
            self._serving.pop(port, None)

    # ------------------------------------------------------------------------------------------------------- calling

    async def call(self, peer: PeerId, method: str, request: bytes, *, timeout_s: float) -> bytes:
        check_size(request, MAX_MESSAGE_BYTES, "the request of", method)
        port = self._dial(peer, method) or await self._nobody(peer)
        self._alarms.set(port, self._fabric.loop.now_s + timeout_s, _give_up, port, timeout_s)
        try:
            port.begin(Message(CALL, bytes(request)))
            return _payload(await port.receive(), peer)
        finally:
            self._alarms.drop(port)
            port.close()

    async def stream(
        self, peer: PeerId, method: str, chunks: AsyncIterator[bytes], *, timeout_s: float
    ) -> AsyncIterator[bytes]:
        port = self._dial(peer, method) or await self._nobody(peer)
        sender = asyncio.create_task(_send_stream(port, chunks), name=f"{self.host} streams {method}")
        watch = Watch(self._fabric.loop, self._alarms, port, timeout_s)
        try:
            while True:
                watch.begin()
                message = await port.receive()
                watch.end()
                if message.kind is END:
                    break
                yield _payload(message, peer)
        finally:
            watch.close()
            port.close()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def _dial(self, peer: PeerId, method: str) -> Port | None:
        """None if this peer was never there."""
        self._require_open()
        target = self._fabric.endpoints.get(peer)
        return None if target is None else dial(self._fabric, self, target, method)

    async def _nobody(self, peer: PeerId) -> Port:
        await self._fabric.loop.pause(self._directory.draw_delay_s(self.host))
        raise PeerUnreachable(f"{peer} published no address: is it running, and in this run?")

    # ------------------------------------------------------------------------------------------------------- records

    async def publish(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self._require_open()
        check_lifetime(ttl_s)
        key, now_s = self._full(key), self.unix_time_s()
        self._sequence = max(self._sequence + 1, int(now_s * 1e6))
        expires_at_s, sequence = now_s + ttl_s, self._sequence
        record_bytes = signed_record_bytes(self.peer_id, key, value, expires_at_s=expires_at_s, sequence=sequence)
        search_s, n_bytes = self._directory.draw_search(self.host)
        n_holders = len(self._directory.holders(key))
        self.traffic.sent[_DHT] += n_bytes + n_holders * (len(key) + record_bytes)
        await self._search(search_s)
        if self.unix_time_s() < expires_at_s:  # nothing else to check, so it need not be signed
            record = CheckedRecord(
                key=key,
                signer=self.peer_id,
                value=bytes(value),
                expires_at_s=expires_at_s,
                sequence=sequence,
                signature=b"",
            )
            self._directory.store(record, host=self.host)

    async def lookup(self, key: str) -> list[Record]:
        self._require_open()
        key = self._full(key)
        search_s, n_bytes = self._directory.draw_search(self.host)
        self.traffic.sent[_DHT] += n_bytes + len(key)
        await self._search(search_s)
        found = self._directory.find(key, host=self.host, now_unix_s=self.unix_time_s())
        self.traffic.received[_DHT] += len(key) * len(found) + sum([len(record.value) for record in found])
        return found

    async def _search(self, seconds: float) -> None:
        """Be over after so long, or once something moves on the host's lines again."""
        await self._fabric.loop.pause(seconds)
        await self._fabric.wires.moving(self.host)
        self._require_open()

    def _full(self, key: str) -> str:
        return f"{self._machine.run_id}/{key}" if self._machine.run_id else key

    # ------------------------------------------------------------------------------------------------- the machine

    async def compute(self, work: Callable[[], T], cost: Cost) -> T:
        self._require_open()
        return await self._machine.processor.run(work, cost)

    def unix_time_s(self) -> float:
        return self._machine.unix_time_s()

    # ------------------------------------------------------------------------------------------------------- the end

    async def close(self) -> None:
        self.sever(silent=False)
        serving = [task for task in self._serving.values() if task is not asyncio.current_task()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def sever(self, *, silent: bool) -> None:
        """Disconnect at once. Unless `silent`, others see their connections reset, as when a process dies; else
        nothing comes from here any more, as when a machine loses its power."""
        if self.closed:
            return
        self.closed, self.silent = True, silent
        self._services = Services(self._fabric.failures)  # nobody is asked any more: what its handlers hold can go
        self._directory.leave(self.host)
        self._fabric.wires.relays.switch(self.host, is_on=False)
        for port in list(self.ports):
            port.sever(silent=silent)

    def _require_open(self) -> None:
        if self.closed:
            raise NetworkClosed(f"the network of {self.peer_id} is closed: open a new one")


class Watch:
    """Fails a stream when nothing moves either way for too long while its reader waits. One timer for all chunks."""

    __slots__ = ("_alarms", "_began_s", "_is_armed", "_loop", "_port", "_timeout_s", "_waits")

    def __init__(self, loop: VirtualLoop, alarms: Alarms, port: Port, timeout_s: float) -> None:
        self._loop = loop
        self._alarms = alarms
        self._port = port
        self._timeout_s = timeout_s
        self._began_s = 0.0
        self._waits = False
        self._is_armed = False

    def begin(self) -> None:
        """The reader waits."""
        self._waits = True
        self._began_s = self._loop.now_s
        if not self._is_armed:
            self._arm(self._began_s + self._timeout_s)

    def end(self) -> None:
        """The reader has what it waited for."""
        self._waits = False

    def close(self) -> None:
        self._waits = False
        self._alarms.drop(self)

    def _arm(self, when_s: float) -> None:
        self._is_armed = True
        self._alarms.set(self, when_s, self._look)

    def _look(self) -> None:
        self._is_armed = False
        if not self._waits:
            return  # the next `begin` arms it anew
        deadline_s = max(self._began_s, self._port.progress_s()) + self._timeout_s
        if deadline_s > self._loop.now_s:
            self._arm(deadline_s)
            return
        self._port.fail(
            PeerTimeout(
                f"nothing moved in the stream {self._port.method!r} with {self._port.peer} for {self._timeout_s:g} s: "
                "it may be busy, paused or cut off; try again"
            )
        )


def _give_up(port: Port, timeout_s: float) -> None:
    port.fail(
        PeerTimeout(
            f"{port.peer} did not answer {port.method!r} within {timeout_s:g} s: it may be busy, paused or cut off; "
            "try again"
        )
    )


async def _send_stream(port: Port, chunks: AsyncIterator[bytes]) -> None:
    """Send a request's chunks. What goes wrong with them is raised where the answer is read."""
    try:
        await port.send(Message(STREAM))
        await send_all(port, chunks)
    except Exception as error:  # noqa: BLE001 - the caller's own iterator may raise anything
        port.fail(error)


def _payload(message: Message, peer: PeerId) -> bytes:
    if message.kind is FAIL:
        raise error_from_wire(message.code, f"{peer}: {message.payload.decode(errors='replace')}")
    return message.payload
