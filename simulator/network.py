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
from ..protocol.records import sign_record
from .directory import Directory
from .processor import Processor
from .serving import Served, Services, check_size, send_all
from .session import Fabric, Kind, Message, Port, dial

T = TypeVar("T")

_DHT = "dht"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a network needs of the host that it runs on."""

    name: str
    identity: Identity
    processor: Processor
    unix_time_s: Callable[[], float]
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
        self._fabric = fabric
        self._directory = directory
        self._machine = machine
        self._services = Services()
        self._serving: dict[asyncio.Task[None], None] = {}
        self._sequence = 0
        fabric.endpoints[self.peer_id] = self

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
        """A request has arrived: answer it in a task of the host's."""
        task = self._fabric.loop.create_task(
            self._answer(port, opening),
            name=f"{self.host} serves {port.method}",
            context=self._machine.context.copy(),
        )
        self._serving[task] = None
        task.add_done_callback(lambda done: self._serving.pop(done, None))
        port.on_failure = task.cancel

    async def _answer(self, port: Port, opening: Message) -> None:
        try:
            await self._services.answer(port, opening)
            port.finish()
        except GossamerError:
            return  # the caller left before it heard the answer: nobody to tell
        finally:
            port.close()

    # ------------------------------------------------------------------------------------------------------- calling

    async def call(self, peer: PeerId, method: str, request: bytes, *, timeout_s: float) -> bytes:
        check_size(request, MAX_MESSAGE_BYTES, f"the request of {method!r}")
        port = await self._dial(peer, method)
        try:
            async with asyncio.timeout(timeout_s):
                await port.send(Message(kind=Kind.CALL, payload=bytes(request)))
                return _payload(await port.receive(), peer)
        except TimeoutError:
            raise PeerTimeout(
                f"{peer} did not answer {method!r} within {timeout_s:g} s: it may be busy, paused or cut off; try again"
            ) from None
        finally:
            port.close()

    async def stream(
        self, peer: PeerId, method: str, chunks: AsyncIterator[bytes], *, timeout_s: float
    ) -> AsyncIterator[bytes]:
        port = await self._dial(peer, method)
        sender = asyncio.create_task(_send_stream(port, chunks), name=f"{self.host} streams {method}")
        try:
            while (message := await self._next(port, peer, timeout_s)).kind is not Kind.END:
                yield _payload(message, peer)
        finally:
            port.close()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _next(self, port: Port, peer: PeerId, timeout_s: float) -> Message:
        """The next message of a stream's answer, unless nothing moves either way for too long."""
        loop = self._fabric.loop
        began_s = loop.time()
        while True:
            deadline_s = max(began_s, port.progress_s) + timeout_s
            try:
                async with asyncio.timeout_at(deadline_s):
                    return await port.receive()
            except TimeoutError:
                if port.progress_s + timeout_s <= loop.time():
                    raise PeerTimeout(
                        f"nothing moved in the stream {port.method!r} with {peer} for {timeout_s:g} s: "
                        "it may be busy, paused or cut off; try again"
                    ) from None

    async def _dial(self, peer: PeerId, method: str) -> Port:
        self._require_open()
        target = self._fabric.endpoints.get(peer)
        if target is None:
            await asyncio.sleep(self._directory.draw_delay_s(self.host))
            raise PeerUnreachable(f"{peer} published no address: is it running, and in this run?")
        return dial(self._fabric, self, target, method)

    # ------------------------------------------------------------------------------------------------------- records

    async def publish(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self._require_open()
        now_s = self.unix_time_s()
        self._sequence = max(self._sequence + 1, int(now_s * 1e6))
        data = sign_record(self._machine.identity, key, value, expires_at_s=now_s + ttl_s, sequence=self._sequence)
        self.traffic.sent[_DHT] += len(key) + len(data)
        await asyncio.sleep(self._directory.draw_delay_s(self.host))
        self._require_open()
        self._directory.store(key, data, host=self.host, now_unix_s=self.unix_time_s())

    async def lookup(self, key: str) -> list[Record]:
        self._require_open()
        self.traffic.sent[_DHT] += len(key)
        await asyncio.sleep(self._directory.draw_delay_s(self.host))
        self._require_open()
        found = self._directory.find(key, host=self.host, now_unix_s=self.unix_time_s())
        self.traffic.received[_DHT] += sum(len(key) + len(record.value) for record in found)
        return found

    # ------------------------------------------------------------------------------------------------- the machine

    async def compute(self, work: Callable[[], T], cost: Cost) -> T:
        self._require_open()
        return await self._machine.processor.run(work, cost)

    def unix_time_s(self) -> float:
        return self._machine.unix_time_s()

    # ------------------------------------------------------------------------------------------------------- the end

    async def close(self) -> None:
        self.sever(silent=False)
        serving = [task for task in self._serving if task is not asyncio.current_task()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def sever(self, *, silent: bool) -> None:
        """Disconnect at once. Unless `silent`, others see their connections reset, as when a process dies; else
        nothing comes from here any more, as when a machine loses its power."""
        if self.closed:
            return
        self.closed, self.silent = True, silent
        for port in list(self.ports):
            port.sever(silent=silent)

    def _require_open(self) -> None:
        if self.closed:
            raise NetworkClosed(f"the network of {self.peer_id} is closed: open a new one")


async def _send_stream(port: Port, chunks: AsyncIterator[bytes]) -> None:
    """Send a request's chunks. What goes wrong with them is raised where the answer is read."""
    try:
        await port.send(Message(kind=Kind.STREAM))
        await send_all(port, chunks)
    except Exception as error:  # noqa: BLE001 - the caller's own iterator may raise anything
        port.fail(error)


def _payload(message: Message, peer: PeerId) -> bytes:
    if message.kind is Kind.FAIL:
        raise error_from_wire(message.code, f"{peer}: {message.payload.decode()}")
    return message.payload
