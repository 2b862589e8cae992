"""Playing a scenario: from its tables to what came of it, in files and figures."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib.metadata
import json
import random
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path as File
from typing import Any

import torch

from ..protocol.errors import UsageError, disk_error
from . import striking
from .aiming import check_numbers, check_regions, check_times
from .analytic import GRAINED
from .costs import CostModel, load_costs
from .faults import Fault
from .figures import figures_of
from .fleets import Fleet, Machine, build_fleet, read_trace
from .fleets.fleet import MBIT
from .guard import Forbidden, forbid_wall_clock
from .invariants import read_logs, violations
from .lives import Note
from .paths import Path
from .scenario import Scenario, toml_of
from .stage_invariants import Vacancies, check_stages, stage_violations
from .struck import faults_done
from .swarm import Swarm
from .tables import Population
from .trace import Trace
from .world import Simulation

LOOK_EVERY_S = 0.5
SCENARIO = "scenario.toml"
"""What was played, in the folder of its files."""
PATIENCE_S = 120.0
"""Once somebody has finished the run, the others have so long, or the time of an update if that is longer."""
FAILURES_TOLD_MAX = 10
"""Of handlers; there may be one for each message."""

Progress = Callable[[float, int], None]
"""(virtual seconds, updates so far)"""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of a scenario."""

    summary: dict[str, Any]
    violations: tuple[str, ...]
    struck: tuple[Fault, ...] = ()
    """Every fault as it was done: at a time, to peers that are named."""

    @property
    def trace_hash(self) -> str:
        return str(self.summary["trace_hash"])


def fleet_of(population: Population, *, seed: int, duration_s: float) -> Fleet:
    """The machines that take part. Raises UsageError, UnknownName."""
    if population.kind == "trace":
        assert population.trace is not None
        return read_trace(population.trace)
    if population.kind != "equal":
        return build_fleet(population.kind, population.peers, seed=seed, duration_s=duration_s)
    maths = costs_of(population).maths
    machine = Machine(
        flops_per_s=maths.flops_per_s or population.flops_per_s,
        memory_bytes_per_s=maths.memory_bytes_per_s or population.memory_bytes_per_s,
        up_bytes_per_s=population.up_mbit_s * MBIT,
        down_bytes_per_s=population.down_mbit_s * MBIT,
    )
    return Fleet(machines=(machine,) * population.peers, default_round_trip_s=population.round_trip_s)


def costs_of(population: Population) -> CostModel:
    """What messages and work cost there. Raises UsageError."""
    return CostModel() if population.costs is None else load_costs(population.costs)


def play(
    scenario: Scenario,
    out: File,
    *,
    shuffle_seed: int | None = None,
    progress: Progress = lambda now_s, step: None,
    trace: Trace | None = None,
) -> Played:
    """Run a scenario once.

    Args:
        out: a folder for scenario.toml, peers/N/events.jsonl, events.jsonl and summary.json; what an earlier simulation
            left there goes.
        trace: told of every delivery.
    Raises: GossamerError for a scenario that cannot begin. What goes wrong later is a violation.
    """
    try:
        return _play(scenario, out, shuffle_seed, progress, trace)
    finally:
        gc.collect()  # a swarm is full of cycles, and Python does not know how much its tensors weigh


def _play(scenario: Scenario, out: File, shuffle_seed: int | None, progress: Progress, trace: Trace | None) -> Played:
    torch.set_num_threads(1)  # more would wait for each other, and sum in another order
    fleet = fleet_of(scenario.fleet, seed=scenario.seed, duration_s=scenario.duration_s)
    phones = _phones(scenario)
    sim = _simulation(scenario, fleet, phones, shuffle_seed, trace)
    notes: list[Note] = []
    try:
        with forbid_wall_clock():  # a task that is built draws its data
            swarm = Swarm(scenario, fleet, sim, out / "peers", phones=phones, tell=notes.append)
    except Forbidden as error:
        raise UsageError(str(error)) from error
    manifest = swarm.manifest.manifest
    check_times(scenario.faults, duration_s=scenario.duration_s, steps=manifest.run.steps)
    check_numbers(scenario.faults, len(fleet.machines))
    check_regions(scenario.faults, fleet)
    check_stages(scenario.expect, manifest.pipeline.stages)
    vacancies = Vacancies(manifest.pipeline.stages if manifest.pipeline.stages > 1 else 0)
    _take(out, scenario)
    swarm.clear()
    swarm.root.mkdir()
    swarm.open_books()
    begun_s = time.process_time()
    crash: list[str] = []
    with _deliveries(scenario, sim, out):
        try:
            sim.run(_main(scenario, swarm, vacancies, progress), timeout_s=scenario.duration_s + PATIENCE_S)
        except Exception as error:  # noqa: BLE001 - whatever a daemon let out is what we are looking for
            crash = [_crash(error)]
        finally:
            swarm.bury_all()
        trace_hash = sim.trace_hash()
    logs = read_logs(swarm.root)
    failed = [f"crash in {one.method}: at {one.host}: {one.text}" for one in sim.handler_failures[:FAILURES_TOLD_MAX]]
    broken = [*crash, *failed, *violations(logs, swarm.ends, scenario.expect)]
    events = [entry.event for entries in logs.values() for entry in entries]
    broken += stage_violations(events, vacancies, swarm.finished(), scenario.expect)
    summary = {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "version": _version(),
        "trace_hash": trace_hash,
        "violations": broken,
        "n_deliveries": sim.n_deliveries,
        "cpu_s": round(time.process_time() - begun_s, 3),
        "maths_cpu_s": round(sum(seat.host.worked_s for seat in swarm.seats), 3),
        **figures_of(logs, swarm),
    }
    _write(out, summary, notes)
    return Played(summary=summary, violations=tuple(broken), struck=tuple(faults_done(swarm.struck)))


def _take(out: File, scenario: Scenario) -> None:
    """Make the folder of a simulation of it. Raises UsageError if peers are there whom no simulation has put there."""
    mark = out / SCENARIO
    if not mark.exists() and any((out / name).exists() for name in ("peers", "devices")):
        raise UsageError(f"{out} holds peers that are no simulation's, which would be lost: choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        mark.write_text(toml_of(scenario), encoding="utf-8")
    except OSError as error:
        raise disk_error(error, f"cannot write to {out}") from None


def _crash(error: Exception) -> str:
    """The violation, named by what tasks raised: groups of it are all alike."""
    raised = list(_raised(error))
    names = sorted({type(one).__name__ for one in raised})
    return f"crash of {', '.join(names)}: {''.join(traceback.format_exception(raised[0])[-4:])}"


def _raised(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for one in error.exceptions:
        yield from _raised(one)


@functools.cache
def _version() -> str:
    return importlib.metadata.version("gossamer")


async def _main(scenario: Scenario, swarm: Swarm, vacancies: Vacancies, progress: Progress) -> None:
    """Start machines and faults; until all is over, or time is."""
    choose = random.Random(f"faults {scenario.seed}")
    jobs = [asyncio.create_task(seat.follow_sessions()) for seat in swarm.seats]
    if swarm.crowd is not None:
        jobs += [asyncio.create_task(swarm.crowd.follow_sessions(number)) for number in range(scenario.devices.n)]
    jobs += [
        asyncio.create_task(striking.follow(swarm, place, random.Random(choose.getrandbits(64))))
        for place in range(len(scenario.faults))
    ]
    finished_s: float | None = None
    while swarm.sim.now_s < scenario.duration_s:
        await asyncio.sleep(min(LOOK_EVERY_S, scenario.duration_s - swarm.sim.now_s))
        progress(swarm.sim.now_s, swarm.step)
        vacancies.look(swarm.running(), swarm.sim.now_s)
        for job in jobs:
            if job.done():
                job.result()
        if any(end.is_finish for end in swarm.ends):
            finished_s = swarm.sim.now_s if finished_s is None else finished_s
            patience_s = max(PATIENCE_S, finished_s / max(1, swarm.step))
            if not swarm.up() or swarm.sim.now_s > finished_s + patience_s:
                break
    swarm.end()
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)


def _phones(scenario: Scenario) -> Fleet | None:
    """The devices' machines, if the scenario has devices."""
    crowd = scenario.devices
    if not crowd.n:
        return None
    if crowd.kind == "equal":
        machines = fleet_of(Population(), seed=0, duration_s=1.0).machines[:1] * crowd.n
        return Fleet(machines=machines)
    fleet = build_fleet(crowd.kind, crowd.n + 1, seed=scenario.seed, duration_s=scenario.duration_s)
    return replace(fleet, machines=fleet.machines[1:])  # the first of a fleet is always on


def _simulation(
    scenario: Scenario, fleet: Fleet, phones: Fleet | None, shuffle_seed: int | None, trace: Trace | None
) -> Simulation:
    loss = scenario.network.loss

    def machine(host: str) -> Machine:
        from_fleet = phones if host[0] == "d" and phones is not None else fleet
        return from_fleet.machines[int(host[1:])]

    def path(source: str, target: str) -> Path:
        # Devices speak to gateways only: their path is as their own fleet has it.
        rule = phones if phones is not None and "d" in (source[0], target[0]) else fleet
        found = rule.path(machine(source), machine(target))
        if loss is None:
            return found
        return Path(latency_s=found.latency_s, jitter_s=found.jitter_s, loss=loss, bytes_per_s=found.bytes_per_s)

    if shuffle_seed is None and scenario.shuffle:
        shuffle_seed = scenario.seed
    costs = costs_of(scenario.fleet)
    return Simulation(
        costs=costs,
        n_cores=(costs.cores or 1) if scenario.fleet.one_machine else None,
        n_others=scenario.fleet.other_threads,
        grains=dict.fromkeys(GRAINED, scenario.run.sizes.grain) if scenario.run.compute == "analytic" else None,
        seed=scenario.seed,
        spread_s=scenario.network.spread_s,
        stale=scenario.network.stale,
        shuffle_seed=shuffle_seed,
        paths=path,
        trace=trace,
    )


@contextlib.contextmanager
def _deliveries(scenario: Scenario, sim: Simulation, out: File) -> Iterator[None]:
    if not scenario.record_deliveries:
        yield
        return
    with (out / "deliveries.txt").open("w", encoding="utf-8") as sink:
        sim.record_deliveries(sink)
        yield


def _write(out: File, summary: dict[str, Any], notes: list[Note]) -> None:
    lines = [json.dumps(asdict(note)) + "\n" for note in notes]
    try:
        (out / "events.jsonl").write_text("".join(lines), encoding="utf-8")
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise disk_error(error, f"cannot write to {out}") from None
