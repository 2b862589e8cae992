"""Ten thousand peers in one simulated world: they join the DHT, fetch the state, and average in groups.

    python -m benchmarks.crowd [--peers 10000] [--group 32] [--rounds 5] [--profile]

The daemons' own code with analytic compute: payloads have their size, the maths its time, nothing is learnt. A roster
has 64 members at most and large runs are to be made of groups of 32 or less, so the peers are cut into groups; each is
a run with a manifest of its own, and all share one DHT, whose searches take the hops of a net of so many nodes. Three
quarters of a group found it, within a minute; the others come one to three minutes later, fetch the state from those
that have it, are let in, and count in the last rounds. Everybody checks every signature, record and certificate.

Told is what it took: CPU time, peak memory, messages; and that in each group all finished with one state.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import hashlib
import pstats
import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gossamer.peer.daemon import Daemon, Result
from gossamer.peer.folder import PeerFolder
from gossamer.protocol.identity import Identity
from gossamer.protocol.manifest import SignedManifest, compose, manifest_of, parse
from gossamer.simulator import analytic
from gossamer.simulator.analytic import Sized
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation

N_PARAMS = 1_000_000
PAYLOAD_BYTES = 94_000
FOUNDED_WITHIN_S, LATE_S = 60.0, (60.0, 180.0)
FLOPS_PER_S = 5e10
SAMPLES = 64
STEP_S = 20.0
"""Of a member's own work for each round."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """What came of it."""

    n_finished: int
    n_torn: int
    """Groups that ended with more than one state."""
    n_late: int
    """Peers that fetched the state instead of making it."""
    n_messages: int
    virtual_s: float
    cpu_s: float
    peak_bytes: int


def crowd(n_peers: int, *, n_group: int, n_rounds: int, root: Path) -> Crowd:
    """Let so many peers live, in folders below `root`."""
    begun_s = time.process_time()
    sim = Simulation(seed=1, latency_s=0.03, up_bytes_per_s=2.5e6, down_bytes_per_s=12.5e6)
    choose = random.Random(1)
    groups = [range(first, min(first + n_group, n_peers)) for first in range(0, n_peers, n_group)]
    task = Sized(options=_task_options())
    results: list[list[Result]] = [[] for _ in groups]

    async def live(host: Host, manifest: SignedManifest, found: list[Result], begins_s: float) -> None:
        await asyncio.sleep(begins_s)
        folder = root / host.name
        daemon = Daemon(
            network=host.network,
            identity=host.identity,
            manifest=manifest,
            task=task,
            folder=PeerFolder(folder),
            owner=host.identity if host.peer_id == manifest.owner else None,
        )
        try:
            found.append(await daemon.run())
        finally:
            daemon.log.close()
        await host.network.close()

    async def main() -> None:
        lives = []
        for members, found in zip(groups, results, strict=True):
            n_founders = max(1, 3 * len(members) // 4)
            manifest = _manifest(members[0], n_founders=n_founders, n_rounds=n_rounds)
            for number in members:
                founds = number - members[0] < n_founders
                begins_s = choose.uniform(0.0, FOUNDED_WITHIN_S) if founds else choose.uniform(*LATE_S)
                host = sim.host(
                    f"p{number}", identity=_identity(number), flops_per_s=FLOPS_PER_S, run_id=manifest.run_id
                )
                lives.append(host.spawn(live(host, manifest, found, begins_s)))
        for life in lives:
            await life

    sim.run(main(), timeout_s=1e5)
    return Crowd(
        n_finished=sum(result.outcome == "finished" for found in results for result in found),
        n_torn=sum(len({result.digest for result in found}) > 1 for found in results),
        n_late=sum(len(members) - max(1, 3 * len(members) // 4) for members in groups),
        n_messages=sim.n_deliveries,
        virtual_s=sim.now_s,
        cpu_s=time.process_time() - begun_s,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _task_options() -> dict[str, float]:
    return {"n_params": N_PARAMS, "flops_per_sample": STEP_S * FLOPS_PER_S / SAMPLES}


def _manifest(owner: int, *, n_founders: int, n_rounds: int) -> SignedManifest:
    """Of one group."""
    tables = {
        "run": {"name": f"group of {owner}", "seed": owner, "steps": n_rounds, "created": "benchmark"},
        "task": {
            "name": f"{analytic.__name__}:Sized",
            "fingerprint": Sized(options=_task_options()).fingerprint(),
            "options": _task_options(),
        },
        "method": {"name": f"{analytic.__name__}:Gather", "options": {"payload_bytes": PAYLOAD_BYTES}},
        "schedule": {"lr": 1.0},
        "data": {"batch_size": SAMPLES},
        "group": {"start_peers": n_founders, "peers_max": 64},
        "admission": {"policy": "open"},
        "limits": {"checkpoint_every_steps": 1000, "eval_every_steps": 1000},
    }
    return parse(compose(manifest_of(tables), _identity(owner)))


def _identity(number: int) -> Identity:
    return Identity(hashlib.sha256(f"crowd {number}".encode()).digest())


def allow_open_files(n_wanted: int) -> None:
    """Each daemon keeps its log open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < n_wanted:
        if hard != resource.RLIM_INFINITY and hard < n_wanted:
            sys.exit(f"{n_wanted} open files are needed and {hard} allowed: raise the limit or lower --peers")
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_wanted, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, nargs="+", default=[10_000])
    parser.add_argument("--group", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    chosen = parser.parse_args()
    print(f"groups of {chosen.group}, {chosen.rounds} rounds, {PAYLOAD_BYTES} bytes from each to each in every round")
    for n_peers in chosen.peers:
        allow_open_files(n_peers + 200)
        profile = cProfile.Profile()
        if chosen.profile:
            profile.enable()
        with tempfile.TemporaryDirectory() as root:
            told = crowd(n_peers, n_group=chosen.group, n_rounds=chosen.rounds, root=Path(root))
        if chosen.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(60)
        print(
            f"{n_peers:>6} peers: {told.n_finished} finished, {told.n_late} came late, {told.n_torn} groups torn; "
            f"{told.virtual_s:.0f} simulated s in {told.cpu_s:.1f} CPU s, {told.n_messages:,} messages, "
            f"{told.peak_bytes / 1e6:,.0f} MB at most",
            flush=True,
        )


if __name__ == "__main__":
    main()
