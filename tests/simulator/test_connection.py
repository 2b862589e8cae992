"""Messages of one connection leave one after the other, as one flow: by hand, and against exact arithmetic."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.protocol.errors import PeerTimeout
from gossamer.protocol.identity import PeerId
from gossamer.simulator.costs import NOTHING, CostModel, Handling, Wire
from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.messages import CALL_OVERHEAD_BYTES, CHUNK, Message
from gossamer.simulator.outbox import AHEAD_BYTES
from gossamer.simulator.paths import Line, Path
from gossamer.simulator.wires import Wires
from gossamer.simulator.world import Simulation

from .test_sharing import water_level

HOSTS = ("a", "b", "c")


class Parcel(Message):
    """A message of so many bytes, its own sender, that notes when it has left."""

    def __init__(self, n_bytes: int, loop: VirtualLoop) -> None:
        super().__init__(CHUNK)
        self.n_bytes, self.sender = n_bytes, self
        self.loop = loop
        self.begun_s: float | None = None
        self.left_s: float | None = None

    def drop(self) -> None:
        assert self.connection is not None
        self.connection.drop(self)

    def begins(self, message: Message) -> None:
        self.begun_s = self.loop.now_s

    def has_left(self, message: Message) -> None:
        self.left_s = self.loop.now_s


@dataclass
class World:
    """Three hosts whose lines carry 100 bytes a second."""

    speeds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(HOSTS, 100.0))

    def __post_init__(self) -> None:
        self.loop = VirtualLoop()
        self.wires = Wires(self.loop, seed=1, path=Path(latency_s=0.0, jitter_s=0.0), costs=NOTHING)
        for host in HOSTS:
            self.wires.attach(host, Line(up_bytes_per_s=self.speeds[host], down_bytes_per_s=math.inf))

    def put(self, source: str, target: str, n_bytes: int, *, is_caller: bool = True) -> Parcel:
        parcel = Parcel(n_bytes, self.loop)
        self.wires.send(self.wires.route(source, target), parcel, is_caller=is_caller)
        return parcel

    def run(self, *events: tuple[float, Callable[[], object]], until_s: float = 1000.0) -> None:
        for when_s, event in events:
            self.loop.call_at(when_s, event)
        self.loop.run(asyncio.sleep(until_s))


def test_messages_to_one_peer_leave_one_after_the_other() -> None:
    world = World()
    parcels = [world.put("a", "b", n_bytes) for n_bytes in (100, 50, 200)]

    world.run()

    assert [parcel.left_s for parcel in parcels] == pytest.approx([1.0, 1.5, 3.5])


def test_six_messages_to_one_peer_have_no_more_of_the_line_than_one_to_another() -> None:
    world = World()
    six = [world.put("a", "b", 50) for _ in range(6)]
    one = world.put("a", "c", 100)
    n_flows: list[int] = []

    world.run((0.5, lambda: n_flows.append(world.wires.flows.n_flows)))

    assert n_flows == [2]
    assert one.left_s == pytest.approx(2.0)
    assert [parcel.left_s for parcel in six] == pytest.approx([1.0, 2.0, 2.5, 3.0, 3.5, 4.0])


@pytest.mark.parametrize("speed", [math.inf, 1e30])
def test_messages_that_take_no_time_leave_one_after_the_other_too(speed: float) -> None:
    """No instant is so short that two of them end in it, or the flow would be over before it knows what comes next."""
    world = World(dict.fromkeys(HOSTS, speed))
    parcels = [world.put("a", "b", n_bytes) for n_bytes in (100, 50, 200)]
    order: list[int] = []
    for parcel in parcels:
        parcel.has_left = lambda message: order.append(message.n_bytes)  # type: ignore[method-assign]

    world.run((1.0, lambda: parcels.extend(world.put("a", "b", n_bytes) for n_bytes in (7, 8))))

    assert order == [100, 50, 200]
    assert [parcel.left_s for parcel in parcels[3:]] == pytest.approx([1.0, 1.0])
    assert world.wires.flows.n_flows == 0


def test_answers_do_not_wait_for_requests_which_go_over_another_connection() -> None:
    world = World()
    request = world.put("a", "b", 1000)
    answer = world.put("a", "b", 10, is_caller=False)

    world.run()

    assert answer.left_s == pytest.approx(0.2)
    assert request.left_s == pytest.approx(10.1)


def test_a_message_given_up_half_way_lets_the_next_go_on_at_once() -> None:
    world = World()
    first, second, third = (world.put("a", "b", 100) for _ in range(3))

    world.run((0.5, first.drop))

    assert first.left_s is None
    assert [second.left_s, third.left_s] == pytest.approx([1.5, 2.5])


def test_a_message_given_up_while_it_waits_never_leaves() -> None:
    world = World()
    first, second, third = (world.put("a", "b", 100) for _ in range(3))

    world.run((0.5, second.drop))

    assert second.left_s is None
    assert [first.left_s, third.left_s] == pytest.approx([1.0, 2.0])
    assert world.wires.n_bytes == 200


def test_the_last_message_given_up_frees_the_line() -> None:
    world = World()
    first, other = world.put("a", "b", 100), world.put("a", "c", 100)

    world.run((1.0, first.drop))

    assert other.left_s == pytest.approx(1.5)


def test_who_is_killed_in_the_instant_in_which_its_message_has_left() -> None:
    costs = CostModel(wire=Wire(message_bytes=0, byte_share=0), handling=Handling(message_s=1.0), cores=2)
    sim = Simulation(
        seed=1, latency_s=0.0, jitter_s=0.0, up_bytes_per_s=math.inf, down_bytes_per_s=math.inf, costs=costs
    )
    a, b, c = (sim.host(name) for name in HOSTS)

    async def kill(peer: PeerId, request: bytes) -> bytes:
        b.kill()
        return b""

    async def send(n_bytes: int) -> None:
        await asyncio.sleep(0.5)
        await b.network.call(c.peer_id, "never", bytes(n_bytes), timeout_s=50)

    c.network.set_gate(lambda peer: True)
    c.network.serve("kill", kill)

    async def main() -> float:
        sim.set_line(b, up_bytes_per_s=1000.0)
        b.spawn(send(500 - CALL_OVERHEAD_BYTES - len("never")))
        await a.network.call(c.peer_id, "kill", b"", timeout_s=50)
        return sim.now_s

    assert sim.run(main()) == pytest.approx(4.0)


def test_a_slower_path_holds_for_the_next_message() -> None:
    world = World()
    first, second = world.put("a", "b", 100), world.put("a", "b", 100)

    slow = Path(latency_s=0.0, jitter_s=0.0, bytes_per_s=10.0)
    world.run((0.5, lambda: world.wires.set_path("a", "b", slow)))

    assert [first.left_s, second.left_s] == pytest.approx([1.0, 11.0])


def test_a_call_that_times_out_half_way_makes_room_for_the_next() -> None:
    sim = Simulation(seed=1, latency_s=0.0, jitter_s=0.0, up_bytes_per_s=100_000.0)
    a, b = sim.host("a"), sim.host("b")
    served: list[int] = []

    async def note(peer: PeerId, request: bytes) -> bytes:
        served.append(len(request))
        return b""

    async def main() -> float:
        b.network.set_gate(lambda peer: True)
        b.network.serve("note", note)
        long = asyncio.create_task(a.network.call(b.peer_id, "note", bytes(500_000), timeout_s=1.0))
        short = asyncio.create_task(a.network.call(b.peer_id, "note", bytes(100_000), timeout_s=5.0))
        with pytest.raises(PeerTimeout):
            await long
        await short
        return sim.now_s

    assert sim.run(main()) == pytest.approx(2.0, abs=0.01)
    assert served == [100_000]


def test_a_streams_sender_is_ahead_of_its_line_but_not_by_much() -> None:
    sim = Simulation(seed=1, latency_s=0.0, jitter_s=0.0, up_bytes_per_s=100_000.0)
    a, b = sim.host("a"), sim.host("b")
    chunk, n_chunks = bytes(50_000), 40
    ahead_bytes: list[int] = []
    n_asked = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal n_asked
        for _ in range(n_chunks):
            n_asked += 1
            yield chunk

    async def sink(peer: PeerId, arriving: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        n_arrived = 0
        async for _ in arriving:
            n_arrived += 1
            ahead_bytes.append((n_asked - n_arrived) * len(chunk))
        yield str(n_arrived).encode()

    async def main() -> list[bytes]:
        b.network.set_gate(lambda peer: True)
        b.network.serve_stream("sink", sink)
        return [answer async for answer in a.network.stream(b.peer_id, "sink", chunks(), timeout_s=5.0)]

    assert sim.run(main()) == [b"40"]
    assert sim.now_s == pytest.approx(20.0, rel=0.01)
    assert AHEAD_BYTES - len(chunk) <= max(ahead_bytes) <= AHEAD_BYTES + len(chunk)
    assert ahead_bytes[:25] == [max(ahead_bytes)] * 25


@pytest.mark.parametrize("grain", [1, 64])
def test_the_end_of_a_stream_does_not_wait_for_another_streams_chunks_whatever_their_grain(grain: int) -> None:
    sim = Simulation(
        seed=1, latency_s=0.0, jitter_s=0.0, up_bytes_per_s=1e6, down_bytes_per_s=math.inf, grains={"take": grain}
    )
    a, b = sim.host("a"), sim.host("b")
    payload = bytes(6_400_000 // grain)

    async def take(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for _ in chunks:
            pass
        yield b""

    async def ask() -> float:
        async def cut() -> AsyncIterator[bytes]:
            for start in range(0, len(payload), 100_000):
                yield payload[start : start + 100_000]

        async for _ in a.network.stream(b.peer_id, "take", cut(), timeout_s=100):
            pass
        return sim.now_s

    b.network.set_gate(lambda peer: True)
    b.network.serve_stream("take", take)

    async def main() -> list[float]:
        first = asyncio.create_task(ask())
        await asyncio.sleep(3.0)
        return [await one for one in (first, asyncio.create_task(ask()))]

    first_s, second_s = sim.run(main())
    assert first_s < 10.0  # it began when half of the first had left
    assert second_s == pytest.approx(12.8, rel=0.01)


def test_what_a_closed_stream_had_not_sent_yet_never_leaves() -> None:
    sim = Simulation(seed=1, latency_s=0.0, jitter_s=0.0, up_bytes_per_s=100_000.0)
    a, b = sim.host("a"), sim.host("b")
    arrived: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for n_bytes in (100_000, 90_000, 80_000, 70_000):
            yield bytes(n_bytes)

    async def first_only(peer: PeerId, arriving: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for received in arriving:
            arrived.append(len(received))
            yield b"enough"

    async def echo(peer: PeerId, request: bytes) -> bytes:
        return request

    async def main() -> None:
        b.network.set_gate(lambda peer: True)
        b.network.serve_stream("first", first_only)
        b.network.serve("echo", echo)
        async for _ in a.network.stream(b.peer_id, "first", chunks(), timeout_s=5.0):
            break
        await a.network.call(b.peer_id, "echo", bytes(50_000), timeout_s=5.0)

    sim.run(main())

    assert arrived == [100_000]
    assert sim.now_s == pytest.approx(2.0, abs=0.01)


# ------------------------------------------------------------------------------------------- against an exact model


Change = tuple[str, int, int, int]


class Exact:
    """The same in exact fractions: queues whose heads are flows over the lines up."""

    def __init__(self) -> None:
        self.now, self.speeds = Fraction(0), [Fraction(100)] * len(HOSTS)
        self.queues: dict[tuple[int, int], list[list[Fraction]]] = {}
        """[number, bytes left] of each message."""
        self.left: dict[int, Fraction] = {}

    def go_to(self, when: Fraction) -> None:
        while self.now < when:
            busy = {pair: queue for pair, queue in self.queues.items() if queue}
            rates = water_level([float(speed) for speed in self.speeds], [(pair[0],) for pair in busy])
            ends = [q[0][1] / Fraction(r) for q, r in zip(busy.values(), rates, strict=True) if r]
            step = min([when - self.now, *ends])
            self.now += step
            for queue, rate in zip(busy.values(), rates, strict=True):
                queue[0][1] -= step * Fraction(rate)
                if queue[0][1] == 0:
                    self.left[int(queue.pop(0)[0])] = self.now

    def drop(self, number: int) -> None:
        for queue in self.queues.values():
            queue[:] = [entry for entry in queue if entry[0] != number]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_queues_on_shared_lines_are_as_in_exact_arithmetic(data: st.DataObject) -> None:
    world, exact, parcels = World(), Exact(), list[Parcel]()
    changes = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "put", "put", "drop", "speed"]),
                st.integers(0, 2),
                st.integers(0, 1),
                st.integers(1, 300),
            ),
            max_size=25,
        )
    )
    pauses = data.draw(st.lists(st.integers(0, 3), min_size=len(changes), max_size=len(changes)))

    def change(what: str, host: int, other: int, n: int) -> None:
        target = [index for index in range(3) if index != host][other]
        if what == "put":
            exact.queues.setdefault((host, target), []).append([Fraction(len(parcels)), Fraction(n)])
            parcels.append(world.put(HOSTS[host], HOSTS[target], n))
        elif what == "speed":
            speed = [0, 50, 100, 200][n % 4]
            exact.speeds[host] = Fraction(speed)
            world.wires.set_line(HOSTS[host], Line(up_bytes_per_s=speed, down_bytes_per_s=math.inf))
        elif parcels:
            number = n % len(parcels)
            parcel = parcels[number]
            if parcel.left_s is None and any(entry[0] == number for q in exact.queues.values() for entry in q):
                exact.drop(number)
                parcel.drop()

    async def main() -> None:
        for pause, told in zip(pauses, changes, strict=True):
            await asyncio.sleep(pause + 0.0078125)  # messages end at other instants than changes come
            exact.go_to(Fraction(world.loop.now_s))
            change(*told)
        await asyncio.sleep(1000.0)
        exact.go_to(Fraction(world.loop.now_s))

    world.loop.run(main())

    for number, parcel in enumerate(parcels):
        expected = exact.left.get(number)
        assert parcel.left_s == (None if expected is None else pytest.approx(float(expected), abs=1e-4))
