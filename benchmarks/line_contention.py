"""What exchanges over shaped lines cost, without daemons: everybody sends to everybody, real and simulated.

Real: networks of our own (gRPC over TLS) in the namespaces of `shaped_links`. The simulated counterpart makes the same
calls; the contention with which it takes as long is what TCP loses where transfers share a line (`costs.Wire`). How
much that is depends on how messages travel and how long they are: see `Message`. The processor time of short and of
long calls is what a message and a byte cost at their ends (`costs.Handling`): of the processes, and of the kernel,
which here carries every packet through four virtual devices.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import meeting
from benchmarks.shaped_links import ShapedHost, shaped_hosts
from gossamer.peer.freed_memory import keep_freed_memory
from gossamer.peer.network import RealNetwork
from gossamer.peer.replica import Replica
from gossamer.protocol.identity import PeerId
from gossamer.protocol.manifest import Manifest
from gossamer.protocol.network import Network
from gossamer.simulator.bookkeeping import Contributions
from gossamer.simulator.costs import CostModel, Handling
from gossamer.simulator.host import Host
from gossamer.simulator.transport import handling_from
from gossamer.simulator.world import Simulation
from gossamer.tasks import Task

N_TURNS = 22
WARM_UPS = 2
CONTENTION_MAX = 1.0
ROUND_TRIP_S = 0.0003
SHORT_BYTES = 200
PAUSE_S = 0.15
"""Between turns, as between rounds. TCP that was silent for longer than its timeout for lost packets (0.2 s at least)
begins with small windows again, and then hardly overflows a queue."""
CHUNK_BYTES = 64 << 10
Turn = tuple[float, float, float, float]
"""(seconds, processor seconds of the process, of interrupts, and of all programs together) of one host in one turn."""
Send = Callable[[PeerId], Coroutine[Any, Any, None]]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Message:
    """What each host sends to each other in a turn: a call (as DeMo's payloads), or a stream of chunks that is answered
    by as many bytes while it comes (as parts that are reduced, and passes of microbatches)."""

    n_bytes: int
    comes_back: bool = False
    in_a_row: int = 1
    """So many, each when the one before is answered. Only the first ones of all hosts then meet: parts do, when a round
    begins, while passes come when others are through, and queues overflow less. Nor does everybody wait for the last of
    them: a pass that is late holds up one microbatch, and others go on."""

    contribution: Path | None = None
    """Where it is written of what run it is a contribution (see `write_run`), which others read, check and keep: in
    daemons that takes twice as long as without so many others."""

    def seconds(self, turns_s: Sequence[Sequence[float]]) -> float:
        """Of an exchange of which each turn took each of the hosts so long. Where everybody waits for the last, it is
        the mean of when that was: what is lost comes in few turns, and much at once, where a queue overflows and the
        last packets of a message are sent again only after a timeout. Where others go on, such turns do not count."""
        if self.in_a_row == 1:
            return statistics.mean(max(turn_s) for turn_s in turns_s)
        return statistics.median(statistics.mean(turn_s) for turn_s in turns_s)

    def words(self) -> list[str]:
        """For a command line."""
        return [str(self.n_bytes), str(int(self.comes_back)), str(self.in_a_row), str(self.contribution or "")]

    @staticmethod
    def of(words: Sequence[str]) -> Message:
        """What `words` tells."""
        n_bytes, comes_back, in_a_row = map(int, words[:3])
        run = Path(words[3]) if words[3] else None
        return Message(n_bytes=n_bytes, comes_back=bool(comes_back), in_a_row=in_a_row, contribution=run)

    def fixed_s(self, handling: Handling) -> float:
        """Of what it costs both ends that which is not of its bytes. A call is two messages; a stream opens as half of
        one, and its chunks and an end follow in each direction."""
        if not self.comes_back:
            return 4 * handling.message_s
        n_chunks = -(-self.n_bytes // CHUNK_BYTES)
        chunk_s = handling.message_s if handling.chunk_s is None else handling.chunk_s
        return 2 * handling.message_s + 4 * (n_chunks + 1) * chunk_s

    def handling(self, exchanged: Exchanged, handling: Handling) -> Handling:
        """With the price of a byte that it had in an exchange: where many messages are handled at once, or short ones,
        that is not the price of long ones by few."""
        n_handled = self.n_bytes * (4 if self.comes_back else 2)
        byte_s = max(0.0, exchanged.cpu_s - self.fixed_s(handling)) / n_handled
        return handling.model_copy(update={"byte_s": byte_s})

    async def send(self, network: Network, peer: PeerId, content: bytes | None = None) -> None:
        """All in a row.

        Args: content: of a call; None: zeros.
        """
        for _ in range(self.in_a_row):
            await self._send(network, peer, content)

    async def _send(self, network: Network, peer: PeerId, content: bytes | None) -> None:
        if not self.comes_back:
            request = bytes(self.n_bytes) if content is None else content
            await network.call(peer, "take", request, timeout_s=60)
            return
        async for _ in network.stream(peer, "swap", self._chunks(), timeout_s=60):
            pass

    async def _chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, self.n_bytes, CHUNK_BYTES):
            yield bytes(min(CHUNK_BYTES, self.n_bytes - start))


def write_run(task: Task, manifest: Manifest, n_members: int, path: Path) -> None:
    """For hosts that are to exchange its contributions."""
    path.write_bytes(pickle.dumps((task, manifest, n_members)))


def _contributions(path: Path) -> Contributions:
    task, manifest, n_members = pickle.loads(path.read_bytes())  # noqa: S301 - what `write_run` wrote
    torch.set_num_threads(1)
    return Contributions(Replica(task, manifest), n_members)


def _drop(request: bytes) -> None:
    pass


def serve(network: Network, take: Callable[[bytes], None] = _drop) -> None:
    """Take what others send."""

    async def answer(peer: PeerId, request: bytes) -> bytes:
        if request:
            take(request)
        return b""

    network.serve("take", answer)
    network.serve_stream("swap", _swap)


async def _swap(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield bytes(len(chunk))


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """What became of everybody's calls to everybody."""

    seconds: float
    """See `Message.seconds`."""
    cpu_s: float
    """Of a call: processor time of both ends and of the kernel. A kernel without IRQ_TIME_ACCOUNTING puts interrupts
    also on the account of whom they interrupt, so that processes and interrupts together may be more than all cores
    have worked; then that is what is told. What hosts still do when the last call is answered counts: daemons do it,
    too, while they go on."""


def contention_of(
    real_s: float, n_hosts: int, mbit: float, message: Message, costs: CostModel, *, n_others: float = 0.0
) -> tuple[float, float]:
    """(contention, seconds without any) that explain what an exchange of so many hosts took.

    Args: n_others: threads of other programs that wanted a core meanwhile.
    """

    def simulated(contention: float) -> float:
        wire = costs.wire.model_copy(update={"contention": contention})
        return simulated_exchange_s(n_hosts, mbit, message, costs.model_copy(update={"wire": wire}), n_others)

    low, high = 0.0, CONTENTION_MAX
    while high - low > 0.002:
        middle = (low + high) / 2
        low, high = (middle, high) if simulated(middle) < real_s else (low, middle)
    return round(low, 3), simulated(0.0)


def handling_of(mbit: float) -> Handling:
    """Processor time of messages on lines of this speed, at each end, from four hosts' exchanges."""
    # 0.1 s of the line, as far as a message may be long.
    n_bytes = min(500_000, int(mbit * 1e6 / 8 * 0.1))
    messages = (Message(n_bytes=SHORT_BYTES), Message(n_bytes=n_bytes), Message(n_bytes=SHORT_BYTES, comes_back=True))
    short_s, long_s, stream_s = (real_exchange(4, mbit, message).cpu_s for message in messages)
    return handling_from(short_s, long_s, stream_s, n_bytes=n_bytes)


# ------------------------------------------------------------------------------------------------------------ simulated


def simulated_exchange_s(n_hosts: int, mbit: float, message: Message, costs: CostModel, n_others: float) -> float:
    speed = mbit * 1e6 / 8
    sim = Simulation(
        seed=0,
        latency_s=ROUND_TRIP_S / 2,
        jitter_s=0.0,
        up_bytes_per_s=speed,
        down_bytes_per_s=speed,
        costs=costs,
        n_cores=costs.cores,
        n_others=n_others,
    )
    hosts = [sim.host(f"h{number}") for number in range(n_hosts)]
    for host in hosts:
        host.network.set_gate(lambda peer: True)
        serve(host.network)

    async def exchange(host: Host) -> float:
        begun_s, others = sim.now_s, [other.peer_id for other in hosts if other is not host]
        await asyncio.gather(*(message.send(host.network, peer) for peer in others))
        return sim.now_s - begun_s

    async def turn() -> float:
        return message.seconds([await asyncio.gather(*(host.spawn(exchange(host)) for host in hosts))])

    return sim.run(turn())


# ----------------------------------------------------------------------------------------------------------------- real


def real_exchange(n_hosts: int, mbit: float, message: Message, *, pause_s: float = PAUSE_S) -> Exchanged:
    """Args: pause_s: of silence between turns."""
    with tempfile.TemporaryDirectory() as folder, shaped_hosts(n_hosts, bits_per_s=mbit * 1e6) as hosts:
        rest = [str(n_hosts), folder, str(pause_s), *message.words()]
        processes = [_start(host, [str(number), host.address, *rest]) for number, host in enumerate(hosts)]
        try:
            told: list[list[Turn]] = [json.loads(process.communicate(timeout=180)[0]) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait(timeout=10)
    turns = [list(zip(*turn, strict=True)) for turn in zip(*told, strict=True)][WARM_UPS:]
    apart_s = sum(sum(processes_s) + max(interrupts_s) for _, processes_s, interrupts_s, _ in turns)
    cpu_s = min(apart_s, sum(max(all_s) for *_, all_s in turns))
    n_calls = len(turns) * n_hosts * (n_hosts - 1) * message.in_a_row
    seconds = message.seconds([each_s for each_s, *_ in turns])
    return Exchanged(seconds=seconds, cpu_s=cpu_s / n_calls)


def _start(host: ShapedHost, told: Sequence[str]) -> subprocess.Popen[str]:
    words = [*host.prefix, sys.executable, "-m", "benchmarks.line_contention", *told]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


async def node(number: int, address: str, n_hosts: int, folder: Path, pause_s: float, message: Message) -> list[Turn]:
    """One host: finds the others through files, then sends to all whenever all are ready."""
    keep_freed_memory()  # as daemons do
    contributions = _contributions(message.contribution) if message.contribution is not None else None
    content, take = (contributions.message, contributions.take) if contributions is not None else (None, _drop)
    async with meeting.opened(number, address, folder, "contention") as network:
        serve(network, take)
        starter = Starter(n_hosts)
        network.serve("start", starter.serve)
        peers = await meeting.meet(network, number, n_hosts, folder)
        others = [peer for peer in peers if peer != network.peer_id]
        host = starter if number == 0 else peers[0]
        for peer in others:
            await network.call(peer, "take", b"", timeout_s=30)
        send = partial(message.send, network, content=content)
        turns = [await _turn(network, host, others, send, pause_s) for _ in range(N_TURNS)]
        meeting.write(folder / f"done{number}", "")
        for other in range(n_hosts):
            await meeting.read(folder / f"done{other}")  # others may still send to us
        return turns


async def _turn(
    network: RealNetwork, starter: PeerId | Starter, others: Sequence[PeerId], send: Send, pause_s: float
) -> Turn:
    if isinstance(starter, Starter):
        await starter.wait()
    else:
        await network.call(starter, "start", b"", timeout_s=60)
    begun, begun_s = (time.process_time(), *_cores_s()), time.time()
    await asyncio.gather(*(send(peer) for peer in others))
    taken_s = time.time() - begun_s
    await asyncio.sleep(pause_s)  # others may still call us
    ended = (time.process_time(), *_cores_s())
    process_s, interrupts_s, all_s = (after - before for before, after in zip(begun, ended, strict=True))
    return taken_s, process_s, interrupts_s, all_s


class Starter:
    """Lets all hosts begin a turn together, when the last is ready."""

    def __init__(self, n_hosts: int) -> None:
        self._n_hosts, self._n_ready, self._begun = n_hosts, 0, asyncio.Event()

    async def wait(self) -> None:
        self._n_ready += 1
        begun = self._begun
        if self._n_ready == self._n_hosts:
            self._n_ready, self._begun = 0, asyncio.Event()
            begun.set()
        await begun.wait()

    async def serve(self, peer: PeerId, request: bytes) -> bytes:
        await self.wait()
        return b""


def _cores_s() -> tuple[float, float]:
    """(on interrupts, in which packets are carried; on anything at all): seconds that all cores have spent so far."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return sum(interrupts) / TICKS_PER_S, (user + nice + system + sum(interrupts)) / TICKS_PER_S


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # hivemind's use of importlib.resources
    number, address, n_hosts, folder, pause_s, *words = sys.argv[1:]
    work = node(int(number), address, int(n_hosts), Path(folder), float(pause_s), Message.of(words))
    print(json.dumps(asyncio.run(work)))
