"""The same runs real and simulated, side by side: is what the simulator predicts true?

    sudo python -m benchmarks.bench_truth [--peers 4 8] [--mbit 10 100] [--methods demo allreduce] [--out runs/truth]

Real: daemons in network namespaces, both directions of every link shaped by a token bucket. Simulated: a scenario with
`run.like` = the real run's folder (same manifest, names and keys) and the cost model that `gossamer calibrate` measures
for this task and method on this machine. Runs are strict, so that the models must be the same, bit for bit.

Compared are the time from the end of the first round to the end of the last (starting processes is not simulated), the
rounds' median, bytes by purpose as daemons count them, and bytes on the wire as the kernel counts them. All daemons
share this machine's cores, with each other and with whatever else runs; how many other threads wanted a core (by their
niceness, so that a nice one counts less) is sampled during the real run, and told to the simulation. What TCP loses
where transfers share a line is measured beforehand, without daemons, on four hosts' lines (see `line_contention`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.line_contention import contention_of, real_exchange_s
from benchmarks.shaped_links import ShapedHost, sent_bytes, shaped_hosts, why_not
from gossamer.peer.commands.swarm import Place
from gossamer.peer.commands.up import Order, up
from gossamer.peer.event_kinds import Ended, RoundEnded, Traffic
from gossamer.peer.events import read_events
from gossamer.simulator.commands.calibrate import Order as CalibrateOrder
from gossamer.simulator.commands.calibrate import calibrate
from gossamer.simulator.costs import load_costs, save_costs
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

ROUND_TRIP_S = 0.0003
"""Between namespaces, from `ping`."""
SETTINGS = ("task.d_model=64", "task.n_layers=3", "task.context=64", "limits.eval_every_steps=1000")
METHODS: dict[str, tuple[str, ...]] = {"demo": ("method.k=1024",), "allreduce": ()}
"""Options that make the link the bottleneck."""
SAMPLE_EVERY_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is compared."""

    wall_s: float
    round_s: float
    sent: dict[str, int]
    wire_bytes: float
    digests: tuple[str, ...]
    other_threads: float = 0.0
    contention: float = 0.0


def real(method: str, n_peers: int, mbit: float, steps: int, folder: Path) -> Figures:
    order = Order(
        task="chars",
        method=method,
        steps=steps,
        batch=2,
        strict=True,
        peers=n_peers,
        options=(*SETTINGS, *METHODS[method]),
    )
    with shaped_hosts(n_peers, bits_per_s=mbit * 1e6) as hosts, _others() as others:
        places = [Place(prefix=tuple(host.prefix), listen=host.address) for host in hosts]
        with contextlib.redirect_stdout(io.StringIO()):
            up(order, out=folder, resume=None, json_output=True, places=places)
        wire_bytes = _wire_bytes(hosts)
    busy = statistics.mean(others) if others else 0.0
    return figures(folder, wire_bytes=wire_bytes, other_threads=busy)


def simulated(n_peers: int, mbit: float, like: Path, other_threads: float, contention: float, folder: Path) -> Figures:
    costs = folder / "costs.toml"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        calibrate(CalibrateOrder(out=costs, like=like), json_output=True)
    measured = load_costs(costs)
    wire = measured.wire.model_copy(update={"contention": contention})
    save_costs(measured.model_copy(update={"wire": wire}), costs)
    fleet = {
        "peers": n_peers,
        "up_mbit_s": mbit,
        "down_mbit_s": mbit,
        "round_trip_s": ROUND_TRIP_S,
        "costs": str(costs),
        "one_machine": True,
        "other_threads": other_threads,
    }
    tables = {"name": "truth", "duration_s": 36000, "run": {"like": str(like)}, "fleet": fleet}
    played = play(scenario_of(tables), folder)
    if played.violations:
        raise SystemExit(f"the simulation went wrong: {played.violations}")
    told = figures(folder, wire_bytes=float(played.summary["wire_bytes"]), other_threads=other_threads)
    return replace(told, contention=contention)


def figures(folder: Path, *, wire_bytes: float, other_threads: float) -> Figures:
    """From the daemons' logs, which are alike in both worlds."""
    logs = [read_events(path) for path in sorted(folder.glob("peers/*/events.jsonl"))]
    sent: Counter[str] = Counter()
    ends: list[float] = []
    durations: list[float] = []
    for entries in logs:
        told = [entry.event.sent for entry in entries if isinstance(entry.event, Traffic)]
        sent.update(told[-1])
        rounds = [entry for entry in entries if isinstance(entry.event, RoundEnded)]
        ends.append(rounds[-1].t_s - rounds[0].t_s)
        durations += [entry.event.duration_s for entry in rounds[1:] if isinstance(entry.event, RoundEnded)]
    digests = {entry.event.digest for entries in logs for entry in entries if isinstance(entry.event, Ended)}
    return Figures(
        wall_s=statistics.mean(ends),
        round_s=statistics.median(durations),
        sent=dict(sorted(sent.items())),
        wire_bytes=wire_bytes,
        digests=tuple(sorted(digests)),
        other_threads=other_threads,
    )


# ------------------------------------------------------------------------------------------------------- what is around


@contextlib.contextmanager
def _others() -> Iterator[list[float]]:
    """Samples of how many threads want a core that are not our daemons'. Only those taken while all daemons train."""
    samples: list[float] = []
    over = threading.Event()
    watcher = threading.Thread(target=_sample, args=(samples, over), daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        over.set()
        watcher.join()


def _sample(samples: list[float], over: threading.Event) -> None:
    while not over.wait(SAMPLE_EVERY_S):
        samples.append(_others_running())


def _others_running() -> float:
    """Threads that run or wait for a core and are neither ours nor a descendant's, weighted by niceness as Linux does:
    a step is worth a factor of 1.25."""
    parents, wanting = {}, Counter[int]()
    weights: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        pid = int(path.parts[2])
        parents[pid], weights[pid] = int(fields[1]), 1.25 ** -int(fields[16])
        wanting[pid] += fields[0] == "R"
    return sum(n * weights[pid] for pid, n in wanting.items() if not _descends(pid, parents))


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()


def _wire_bytes(hosts: Sequence[ShapedHost]) -> float:
    return float(sum(sent_bytes(host) for host in hosts))


# ------------------------------------------------------------------------------------------------------------ the page


def off(real: float, simulated: float) -> float:
    """How far a prediction is from the truth."""
    return simulated / real - 1 if real else 0.0


def row(key: str, real: Figures, simulated: Figures) -> list[str]:
    payload = [sum(n for name, n in side.sent.items() if name.startswith("round/")) for side in (real, simulated)]
    told = [key]
    for a, b in ((real.wall_s, simulated.wall_s), (real.round_s, simulated.round_s)):
        told.append(f"{a:.2f} / {b:.2f}  {off(a, b):+.0%}")
    for a, b in (payload, (real.wire_bytes, simulated.wire_bytes)):
        told.append(f"{a / 1e6:.2f} / {b / 1e6:.2f}  {off(a, b):+.1%}")
    same = len({*real.digests, *simulated.digests}) == 1
    return [*told, "same" if same else "DIFFERENT", f"{real.other_threads:.1f}"]


def show(console: Console, results: dict[str, tuple[Figures, Figures]]) -> None:
    table = Table(title="real / simulated")
    for head in ("run", "wall s", "round p50 s", "rounds' MB", "wire MB", "digests", "others"):
        table.add_column(head, justify="left" if head == "run" else "right")
    for key, (was, predicted) in results.items():
        table.add_row(*row(key, was, predicted))
    console.print(table)


def steps_for(method: str, mbit: float) -> int:
    """Enough for half a minute or so."""
    return 30 if method == "allreduce" and mbit < 50 else 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--mbit", type=float, nargs="+", default=[10, 100])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("runs/truth"))
    chosen = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return
    console, results = Console(width=150), dict[str, tuple[Figures, Figures]]()
    # On the slowest lines, where waiting for a core is least mistaken for it.
    contention = contention_at(min(chosen.mbit), console)
    for mbit in chosen.mbit:
        for n_peers in chosen.peers:
            for method in chosen.methods:
                key = f"{method}, {n_peers} daemons, {mbit:g} Mbit/s"
                with tempfile.TemporaryDirectory() as name:
                    results[key] = one(method, n_peers, mbit, contention, Path(name))
                console.print(*row(key, *results[key]), sep="   ")
                save(results, chosen.out)
    show(console, results)


def contention_at(mbit: float, console: Console) -> float:
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        costs = calibrate(CalibrateOrder(out=Path(name) / "costs.toml"), json_output=True)
    with _others() as others:
        real_s = real_exchange_s(mbit)
    contention, alone_s = contention_of(real_s, mbit, costs, n_others=statistics.mean(others) if others else 0.0)
    console.print(
        f"{mbit:g} Mbit/s: four hosts' exchange takes {real_s:.3f} s, {alone_s:.3f} s if lines were shared exactly: "
        f"contention {contention}"
    )
    return contention


def one(method: str, n_peers: int, mbit: float, contention: float, folder: Path) -> tuple[Figures, Figures]:
    was = real(method, n_peers, mbit, steps_for(method, mbit), folder / "real")
    (folder / "simulated").mkdir()
    return was, simulated(n_peers, mbit, folder / "real", was.other_threads, contention, folder / "simulated")


def save(results: dict[str, tuple[Figures, Figures]], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {key: {"real": asdict(a), "simulated": asdict(b)} for key, (a, b) in results.items()}
    out.with_suffix(".json").write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
