"""Thousands of peers in one simulated world, in as many runs as it takes: what it costs to simulate them.

    python -m benchmarks.crowd groups [--peers 10000] [--rounds 3]      # join the DHT, fetch the state, average
    python -m benchmarks.crowd pipelines [--peers 1000] [--hours 1]     # eight stages each
    python -m benchmarks.crowd pipelines --apart [--jobs 2]             # the same, one pipeline after the other

The daemons' own code with analytic compute: payloads have their size, the maths its time, nothing is learnt. A roster
has 64 members at most and large runs are to be made of groups of 32 or less, so the peers are cut into groups or
pipelines of 32; each is a run with a manifest of its own, and all share one DHT, whose searches take the hops of a net
of so many nodes. Everybody checks every signature, record and certificate.

groups: three quarters of a group found it, within half a minute; the others come in the minute after that, fetch the
state from those that have it, are let in, and count in the last rounds. All must finish, each group with one state.
pipelines: from the beginning to the end of the time; each must make steps, all of a step's microbatches counted.
--apart: each pipeline in a world of its own, in which the others' peers are nodes of the DHT and no more, in as many
processes side by side as there are jobs. What is delivered is the same, delivery by delivery: --digests tells.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import hashlib
import itertools
import os
import pstats
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from gossamer.peer.daemon import Daemon, Result
from gossamer.peer.event_kinds import StepPassed
from gossamer.peer.events import read_events
from gossamer.peer.pipeline.daemon import StageDaemon
from gossamer.protocol.identity import Identity
from gossamer.protocol.manifest import SignedManifest, compose, manifest_of, parse
from gossamer.simulator import analytic
from gossamer.simulator.analytic import Sized
from gossamer.simulator.folders import SimulatedFolder
from gossamer.simulator.host import Host
from gossamer.simulator.side_by_side import side_by_side
from gossamer.simulator.world import Simulation
from gossamer.tasks import Task

FLOPS_PER_S = 5e10
UP_BYTES_PER_S, DOWN_BYTES_PER_S = 2.5e6, 12.5e6
FOUNDED_WITHIN_S, LATE_S = 30.0, (30.0, 90.0)
GROUP = 32
N_STAGES, MICROBATCHES = 8, 16
FORWARD_S = 3.0
"""Of a microbatch, at one stage."""
SAMPLES = 64
"""Of each microbatch, or of a group's member's work for a round."""
ACTIVATION_ELEMENTS = 64
"""Of a sample, between two stages."""
PAYLOAD_BYTES = 9_400
"""Of each contribution: those of `demo` for a model of 100,000 parameters."""
STEP_S = 30.0
"""Of a group's member's own work for each round."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the peers do."""

    daemon: type[Daemon]
    task: Task
    task_options: dict[str, Any]
    n_steps: int
    share_of_founders: float
    pipeline: dict[str, Any]


def groups(n_rounds: int) -> Kind:
    options = {"n_params": 100_000, "flops_per_sample": STEP_S * FLOPS_PER_S / SAMPLES}
    return Kind(
        daemon=Daemon,
        task=Sized(options=options),
        task_options=options,
        n_steps=n_rounds,
        share_of_founders=0.75,
        pipeline={},
    )


def pipelines() -> Kind:
    options = {
        "n_layers": N_STAGES,
        "activation_elements": ACTIVATION_ELEMENTS,
        "flops_per_sample": 3 * N_STAGES * FORWARD_S * FLOPS_PER_S / SAMPLES,
    }
    return Kind(
        daemon=StageDaemon,
        task=Sized(options=options),
        task_options=options,
        n_steps=10**6,
        share_of_founders=1.0,
        pipeline={"stages": N_STAGES, "microbatches": MICROBATCHES},
    )


def runs_of(n_peers: int) -> list[range]:
    """Their numbers, cut into runs of as many as a group has, or one less."""
    n_runs = -(-n_peers // GROUP)
    bounds = [n_peers * number // n_runs for number in range(n_runs + 1)]
    return [range(start, end) for start, end in itertools.pairwise(bounds)]


class Crowd:
    """Peers of one kind, cut into runs."""

    def __init__(self, kind: Kind, n_peers: int, root: Path, *, played: int | None = None) -> None:
        """Args: root: for their folders. played: the number of the run whose peers live here; None: all."""
        self.kind, self.root = kind, root
        self.sim = Simulation(seed=1, latency_s=0.03, up_bytes_per_s=UP_BYTES_PER_S, down_bytes_per_s=DOWN_BYTES_PER_S)
        self._all_runs = runs_of(n_peers)
        self.runs = self._all_runs if played is None else [self._all_runs[played]]
        self.results: list[list[Result]] = []
        self._daemons: list[Daemon] = []

    def n_founders(self, run: Sequence[int]) -> int:
        return max(1, int(self.kind.share_of_founders * len(run)))

    async def live(self) -> None:
        """Until all have finished."""
        lives = []
        for run in self._all_runs:
            if run in self.runs:
                lives += self._begin(run)
            else:
                for number in run:
                    self.sim.bystander(f"p{number}")
        for life in lives:
            await life

    def _begin(self, run: Sequence[int]) -> list[asyncio.Task[None]]:
        manifest = _manifest(self.kind, run[0], n_founders=self.n_founders(run))
        choose, results, lives = random.Random(run[0]), list[Result](), []
        self.results.append(results)
        for number in run:
            host = self.sim.host(
                f"p{number}", identity=_identity(number), flops_per_s=FLOPS_PER_S, run_id=manifest.run_id
            )
            founds = number - run[0] < self.n_founders(run)
            begins_s = choose.uniform(0.0, FOUNDED_WITHIN_S) if founds else choose.uniform(*LATE_S)
            lives.append(host.spawn(self._live(host, manifest, results, begins_s)))
        return lives

    async def _live(self, host: Host, manifest: SignedManifest, results: list[Result], begins_s: float) -> None:
        await asyncio.sleep(begins_s)
        daemon = self.kind.daemon(
            network=host.network,
            identity=host.identity,
            manifest=manifest,
            task=self.kind.task,
            folder=SimulatedFolder(self.root / host.name),
            owner=host.identity if host.peer_id == manifest.owner else None,
        )
        self._daemons.append(daemon)
        results.append(await daemon.run())
        await host.network.close()

    def close_logs(self) -> None:
        for daemon in self._daemons:
            daemon.log.close()

    def steps(self, run: Sequence[int]) -> dict[int, int]:
        """Of a pipeline: microbatches that were counted in each step, as one of its peers tells it."""
        entries = read_events(self.root / f"p{run[0]}" / "events.jsonl")
        return {entry.event.round: entry.event.counted for entry in entries if isinstance(entry.event, StepPassed)}


def _manifest(kind: Kind, owner: int, *, n_founders: int) -> SignedManifest:
    """Of one run."""
    tables = {
        "run": {"name": f"run of {owner}", "seed": owner, "steps": kind.n_steps, "created": "benchmark"},
        "task": {"name": kind.task.name, "fingerprint": kind.task.fingerprint(), "options": kind.task_options},
        "method": {"name": f"{analytic.__name__}:Gather", "options": {"payload_bytes": PAYLOAD_BYTES}},
        "schedule": {"lr": 1.0},
        "data": {"batch_size": SAMPLES},
        "pipeline": kind.pipeline,
        "group": {"start_peers": n_founders, "peers_max": 64},
        "admission": {"policy": "open"},
        "limits": {"checkpoint_every_steps": 10**6, "eval_every_steps": 10**6},
    }
    return parse(compose(manifest_of(tables), _identity(owner)))


def _identity(number: int) -> Identity:
    return Identity(hashlib.sha256(f"crowd {number}".encode()).digest())


def play_groups(n_peers: int, n_rounds: int, root: Path) -> str:
    """Ends the program unless all have finished, each group with one state."""
    crowd = Crowd(groups(n_rounds), n_peers, root)
    crowd.sim.run(crowd.live(), timeout_s=1e5)
    crowd.close_logs()
    n_finished = sum(result.outcome == "finished" for results in crowd.results for result in results)
    n_torn = sum(len({result.digest for result in results}) > 1 for results in crowd.results)
    if n_finished < n_peers or n_torn:
        sys.exit(f"{n_finished} of {n_peers} peers finished, and {n_torn} groups ended with more than one state")
    n_late = sum(len(run) - crowd.n_founders(run) for run in crowd.runs)
    told = f"{len(crowd.runs)} groups, {n_finished} finished, {n_late} came late, {n_torn} torn in the end"
    return f"{told}; {_costs(crowd.sim.now_s, crowd.sim.n_deliveries, _peak_bytes())}"


class RunDigests:
    """SHA-256 over the deliveries of each run."""

    def __init__(self, runs: Iterable[range]) -> None:
        self._hashes = [hashlib.sha256() for _ in runs]
        self._of = {f"p{number}": one for run, one in zip(runs, self._hashes, strict=True) for number in run}

    def writelines(self, lines: Iterable[str], /) -> None:
        """As `Simulation.record_deliveries` calls it."""
        for line in lines:
            self._of[line.split(maxsplit=2)[1]].update(line.encode())

    def hexdigests(self) -> list[str]:
        return [one.hexdigest() for one in self._hashes]


@dataclass(frozen=True, kw_only=True)
class Lived:
    """What came of the pipelines of one world."""

    steps: list[dict[int, int]]
    """Of each pipeline, by step: how many microbatches were counted."""
    now_s: float
    n_messages: int
    peak_bytes: float
    digests: list[str]


def live(n_peers: int, hours: float, *, with_digests: bool, played: int | None = None) -> Lived:
    """Pipelines in one world. Args: played: only this one; None: all."""
    with tempfile.TemporaryDirectory() as root:
        crowd = Crowd(pipelines(), n_peers, Path(root), played=played)
        digests = RunDigests(crowd.runs)
        if with_digests:
            crowd.sim.record_deliveries(digests)

        async def main() -> None:
            lives = asyncio.create_task(crowd.live())
            await asyncio.sleep(3600 * hours)
            lives.cancel()

        crowd.sim.run(main(), timeout_s=1e6)
        crowd.sim.trace_hash()
        crowd.close_logs()
        return Lived(
            steps=[crowd.steps(run) for run in crowd.runs],
            now_s=crowd.sim.now_s,
            n_messages=crowd.sim.n_deliveries,
            peak_bytes=_peak_bytes(),
            digests=digests.hexdigests() if with_digests else [],
        )


def live_apart(n_peers: int, hours: float, *, with_digests: bool, jobs: int) -> Lived:
    """Each pipeline in a world of its own, so many of them at a time."""
    alone = partial(_live_alone, n_peers, hours, with_digests)
    lived = [one for _, one in sorted(side_by_side(alone, range(len(runs_of(n_peers))), jobs=jobs), key=itemgetter(0))]
    return Lived(
        steps=[steps for one in lived for steps in one.steps],
        now_s=max(one.now_s for one in lived),
        n_messages=sum(one.n_messages for one in lived),
        peak_bytes=jobs * max(one.peak_bytes for one in lived),
        digests=[digest for one in lived for digest in one.digests],
    )


def _live_alone(n_peers: int, hours: float, with_digests: bool, played: int) -> Lived:
    try:
        return live(n_peers, hours, with_digests=with_digests, played=played)
    finally:
        gc.collect()  # a dead world is full of cycles, and the next one looks away from all that was there before it


def told_of(lived: Lived) -> str:
    """Ends the program unless every pipeline has made steps of all their microbatches."""
    steps = lived.steps
    n_partial = sum(counted < MICROBATCHES for one in steps for counted in one.values())
    told = f"{len(steps)} pipelines of {N_STAGES} stages, {min(map(len, steps))} to {max(map(len, steps))} steps"
    told += f" of {MICROBATCHES} microbatches, {n_partial} of them partial"
    told += f"; {_costs(lived.now_s, lived.n_messages, lived.peak_bytes)}"
    if not all(steps) or n_partial:
        sys.exit(f"{sum(not one for one in steps)} pipelines made no step: {told}")
    if lived.digests:
        told += f"; deliveries of all pipelines {hashlib.sha256(' '.join(lived.digests).encode()).hexdigest()[:16]}"
    return told


def _peak_bytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _costs(now_s: float, n_messages: int, peak_bytes: float) -> str:
    return f"{now_s:.0f} simulated s, {n_messages:,} messages, at most {peak_bytes / 1e6:,.0f} MB"


def allow_open_files(n_wanted: int) -> None:
    """Each daemon keeps its log open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < n_wanted:
        if hard != resource.RLIM_INFINITY and hard < n_wanted:
            sys.exit(f"{n_wanted} open files are needed and {hard} allowed: raise the limit or lower --peers")
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_wanted, hard))


def _cpu_s() -> float:
    """Of this process and of those that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["groups", "pipelines"])
    parser.add_argument("--peers", type=int, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--apart", action="store_true", help="pipelines: each in a world of its own")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="with --apart: processes at a time")
    parser.add_argument("--digests", action="store_true", help="pipelines: a digest of all that was delivered")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    chosen = parser.parse_args()
    if chosen.kind == "groups" and (chosen.apart or chosen.digests):
        parser.error("--apart and --digests are for pipelines: groups leave the DHT when they have finished")
    if chosen.apart and (chosen.profile or chosen.jobs < 1):
        parser.error("--apart needs at least one job, and --profile sees one process: profile without --apart")
    for n_peers in chosen.peers or [10_000 if chosen.kind == "groups" else 1000]:
        allow_open_files(n_peers + 200)
        begun_s, begun_cpu_s, profile = time.perf_counter(), _cpu_s(), cProfile.Profile()
        if chosen.profile:
            profile.enable()
        if chosen.kind == "groups":
            with tempfile.TemporaryDirectory() as root:
                told = play_groups(n_peers, chosen.rounds, Path(root))
        elif chosen.apart:
            told = told_of(live_apart(n_peers, chosen.hours, with_digests=chosen.digests, jobs=chosen.jobs))
        else:
            told = told_of(live(n_peers, chosen.hours, with_digests=chosen.digests))
        profile.disable()
        took = f"{time.perf_counter() - begun_s:.0f} s, {_cpu_s() - begun_cpu_s:.0f} s of processors' time"
        print(f"{n_peers} peers: {told}; {took}", flush=True)
        if chosen.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    main()
