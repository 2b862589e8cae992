"""The simulated world: hosts on a modelled internet, in virtual time, from one seed.

    sim = Simulation(seed=7, latency_s=0.05)
    a, b = sim.host("a"), sim.host("b")

    async def main() -> bytes:
        b.network.serve("echo", echo)
        ...
        return await a.network.call(b.peer_id, "echo", b"hello", timeout_s=5)

    sim.run(main())

The same seed gives the same run, delivery by delivery; `trace_hash` tells.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

from ..protocol.errors import unknown_name
from ..protocol.identity import Identity
from .cores import Cores
from .costs import NOTHING, CostModel
from .directory import Directory
from .fabric import Fabric, HandlerFailure
from .guard import forbid_wall_clock
from .host import Host, owner_of
from .loop import VirtualLoop
from .nat import Nat
from .network import SimulatedNetwork
from .paths import Line, Path
from .processor import Processor
from .trace import Sink, Trace
from .wires import PathRule, Wires

T = TypeVar("T")

EPOCH_UNIX_S = 1_800_000_000.0
"""Wall clock of every host when a simulation begins, before its skew."""


class Simulation:
    """One run. Make it, add hosts, `run` a coroutine; afterwards only look at it.

    Args:
        latency_s, jitter_s, loss: of every path for which `set_path` says nothing else; see `wires.Path`.
        up_bytes_per_s, down_bytes_per_s: of every host that is not given its own.
        spread_s: mean time until others see a published record.
        stale: probability that a search of the DHT finds the record before the newest.
        paths: (source, target) -> their path, instead of one for all.
        shuffle_seed: permute what is ready at the same instant, to find code that relies on its order.
        costs: of messages and heavy maths, as measured; default: messages weigh what daemons count, and no more.
        n_cores: of the one machine that all hosts are processes on; None: each is a machine of its own.
        n_others: threads of other programs that want that machine's cores all the time.
        grains: by method, bytes on the lines for each byte of its messages; default 1. See `simulator.analytic`.
    """

    def __init__(
        self,
        *,
        seed: int,
        latency_s: float = 0.02,
        jitter_s: float = 0.005,
        up_bytes_per_s: float = 12.5e6,
        down_bytes_per_s: float = 12.5e6,
        loss: float = 0.0,
        spread_s: float = 0.1,
        stale: float = 0.0,
        shuffle_seed: int | None = None,
        paths: PathRule | None = None,
        costs: CostModel = NOTHING,
        n_cores: int | None = None,
        n_others: float = 0.0,
        grains: Mapping[str, int] | None = None,
        trace: Trace | None = None,
    ) -> None:
        if not (0 <= spread_s < math.inf and 0 <= stale < 1):
            raise ValueError(
                f"spread_s = {spread_s}, stale = {stale}: expected 0 or more seconds, and 0 or more below 1"
            )
        self.seed = seed
        self.random = random.Random(f"simulation {seed}")
        """For the scenario's own choices, such as whom to kill when."""
        self.hosts: dict[str, Host] = {}
        self._line = Line(up_bytes_per_s=up_bytes_per_s, down_bytes_per_s=down_bytes_per_s)
        self._loop = VirtualLoop(shuffle_seed=shuffle_seed)
        self._loop.owner_of = owner_of
        path = Path(latency_s=latency_s, jitter_s=jitter_s, loss=loss)
        self._wires = Wires(self._loop, seed=seed, path=paths or path, costs=costs)
        self._trace = trace or Trace()
        self._fabric = Fabric(loop=self._loop, wires=self._wires, trace=self._trace, costs=costs, grains=grains or {})
        self._costs = costs
        self._cores = Cores(self._wires.flows, n_cores, n_others=n_others) if n_cores is not None else None
        self._directory = Directory(self._loop, self._wires, seed=seed, spread_s=spread_s, stale=stale)

    # --------------------------------------------------------------------------------------------------------- hosts

    def host(
        self,
        name: str,
        *,
        identity: Identity | None = None,
        flops_per_s: float = 5e10,
        memory_bytes_per_s: float = 1e10,
        up_bytes_per_s: float | None = None,
        down_bytes_per_s: float | None = None,
        clock_skew_s: float = 0.0,
        nat: Nat = Nat.OPEN,
        relay: bool = False,
        run_id: str = "",
    ) -> Host:
        """Add a machine, switched on.

        Args:
            identity: None: one that follows from the seed and the name.
            clock_skew_s: how far its wall clock is ahead; may be changed later on the host.
            nat: who can dial it.
            relay: lets those through it that cannot connect otherwise.
            run_id: of the run that it takes part in, if there are several in this world.
        Raises: ValueError if there is one of this name, or for a relay that nobody can dial.
        """
        if relay and nat is not Nat.OPEN:
            raise ValueError(f"{name} is to relay, and nobody can dial it: give it nat=Nat.OPEN, not {nat}")
        self._wires.attach(name, _changed(self._line, up_bytes_per_s, down_bytes_per_s), nat=nat, relay=relay)
        cores = self._cores or self._own_cores()
        host = self.hosts[name] = Host(
            name=name,
            identity=identity or Identity(hashlib.sha256(f"identity {self.seed} {name}".encode()).digest()),
            seed=self.seed,
            processor=Processor(
                flops_per_s=flops_per_s,
                memory_bytes_per_s=memory_bytes_per_s,
                costs=self._costs,
                cores=cores,
            ),
            cores=cores,
            epoch_unix_s=EPOCH_UNIX_S,
            connect=lambda machine: SimulatedNetwork(self._fabric, self._directory, machine),
            loop=self._loop,
            run_id=run_id,
        )
        host.clock_skew_s = clock_skew_s
        return host

    def bystander(self, name: str) -> None:
        """Add a node of the DHT that holds records and does nothing else, such as a peer of a run that is simulated
        elsewhere: runs that share only the DHT, and lose none of its nodes, go the same way in one world as each in
        a world of its own with the others' peers as bystanders, in the same order and with the same seed.

        Raises: as `host`.
        """
        self._wires.attach(name, self._line)
        self._directory.enter(name)

    # -------------------------------------------------------------------------------------------------------- faults

    def set_line(
        self, host: str | Host, *, up_bytes_per_s: float | None = None, down_bytes_per_s: float | None = None
    ) -> None:
        """Change a host's bandwidth, also of transfers under way. 0 stalls it."""
        name = self._name(host)
        self._wires.set_line(name, _changed(self._wires.line(name), up_bytes_per_s, down_bytes_per_s))

    def set_path(
        self,
        a: str | Host,
        b: str | Host,
        *,
        latency_s: float | None = None,
        jitter_s: float | None = None,
        loss: float | None = None,
        bytes_per_s: float | None = None,
        one_way: bool = False,
    ) -> None:
        """Change what messages from `a` to `b` meet, and those from `b` to `a` unless `one_way`."""
        ends = (self._name(a), self._name(b))
        for source, target in [ends] if one_way else [ends, ends[::-1]]:
            old = self._wires.path(source, target)
            new = replace(
                old,
                latency_s=old.latency_s if latency_s is None else latency_s,
                jitter_s=old.jitter_s if jitter_s is None else jitter_s,
                loss=old.loss if loss is None else loss,
                bytes_per_s=old.bytes_per_s if bytes_per_s is None else bytes_per_s,
            )
            self._wires.set_path(source, target, new)

    def partition(self, these: Iterable[str | Host], those: Iterable[str | Host], *, one_way: bool = False) -> None:
        """Lose all that one group sends to the other, in both directions or only from these to those. Adds to
        earlier partitions; hosts that are in neither group reach everybody."""
        left, right = [self._name(host) for host in these], [self._name(host) for host in those]
        self.cut(product(left, right))
        if not one_way:
            self.cut(product(right, left))

    def heal(self, these: Iterable[str | Host] | None = None, those: Iterable[str | Host] = ()) -> None:
        """End all partitions, or those between two groups. Requests that lost something to them stay broken; those
        that were idle go on."""
        if these is None:
            self._wires.heal()
            self._directory.heal()
            return
        left, right = [self._name(host) for host in these], [self._name(host) for host in those]
        self.mend([*product(left, right), *product(right, left)])

    def cut(self, ways: Iterable[tuple[str, str]]) -> None:
        """Lose all that the first of each two hosts sends to the second."""
        for source, target in ways:
            self._wires.cut([self._name(source)], [self._name(target)])

    def mend(self, ways: Iterable[tuple[str, str]]) -> None:
        """End it in these directions only; otherwise as `heal`."""
        pairs = dict.fromkeys((self._name(source), self._name(target)) for source, target in ways)
        self._wires.heal(pairs)
        self._directory.heal(pairs)

    # ------------------------------------------------------------------------------------------------------- running

    def run(self, main: Coroutine[Any, Any, T], *, timeout_s: float = 3600.0) -> T:
        """Run `main`, outside of all hosts, to its end; then the hosts lose their power. Once per simulation.

        Args:
            timeout_s: virtual seconds.
        Raises: as `VirtualLoop.run`.
        """
        try:
            with forbid_wall_clock():
                return self._loop.run(self._to_the_end(main), timeout_s=timeout_s)
        finally:
            self._loop.close()

    @property
    def now_s(self) -> float:
        """Virtual seconds since the beginning."""
        return self._loop.time()

    def record_deliveries(self, sink: Sink) -> None:
        """Write a line for every delivery, to something such as an open file, that outlives the last `trace_hash`."""
        self._trace.sink = sink

    @property
    def handler_failures(self) -> tuple[HandlerFailure, ...]:
        """So far."""
        return tuple(self._fabric.failures)

    @property
    def n_deliveries(self) -> int:
        """Messages and chunks that arrived so far."""
        return self._trace.n_deliveries

    @property
    def wire_bytes(self) -> float:
        """What all transfers begun so far weigh, headers and what is sent again included.

        One that was given up on the way counts whole, one that a relay sends on counts once.
        """
        return self._wires.n_bytes

    def trace_hash(self) -> str:
        """SHA-256 over all deliveries so far: time, sender, receiver, method, size, content."""
        return self._trace.hexdigest()

    async def _to_the_end(self, main: Coroutine[Any, Any, T]) -> T:
        try:
            return await main
        finally:
            for host in self.hosts.values():
                host.kill(silent=True)

    def _own_cores(self) -> Cores | None:
        """Of a machine of its own; None if messages cost it nothing, so that nothing is shared on it."""
        if not self._costs.handling_s(1) and not self._costs.handling.request_s:
            return None
        return Cores(self._wires.flows, self._costs.cores or 2)

    def _name(self, host: str | Host) -> str:
        name = host.name if isinstance(host, Host) else host
        if name not in self.hosts:
            raise unknown_name("host", name, self.hosts)
        return name


def _changed(line: Line, up_bytes_per_s: float | None, down_bytes_per_s: float | None) -> Line:
    return Line(
        up_bytes_per_s=line.up_bytes_per_s if up_bytes_per_s is None else up_bytes_per_s,
        down_bytes_per_s=line.down_bytes_per_s if down_bytes_per_s is None else down_bytes_per_s,
    )
