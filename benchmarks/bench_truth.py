"""The same runs real and simulated, side by side: is what the simulator predicts true?

    sudo python -m benchmarks.bench_truth [--peers 4 8] [--mbit 10 100] [--runs demo allreduce pipeline] [--repeat 3]
        [--out FILE]

Real: daemons in network namespaces, both directions of every link shaped by a token bucket. Simulated: a scenario with
`run.like` = the real run's folder (same manifest, names and keys) and the cost model that `gossamer calibrate` measures
for this task and method on this machine. Runs are strict, so that the models must be the same, bit for bit. A pipeline
has one or two daemons for each of three stages (in place of four or eight). With one, its stages' states must be the
same; with two, which replica gets a microbatch follows from measured speeds, so the order of sums may differ.

Compared are the time from the end of the first round to the end of the last (starting processes is not simulated), the
rounds' median, bytes by purpose as daemons count them, and bytes on the wire as the kernel counts them. All daemons
share this machine's cores, with each other and with whatever else runs; how many other threads wanted a core (by their
niceness, so that a nice one counts less) is sampled during the real run, and told to the simulation. What messages cost
on such lines, and what TCP loses where so many transfers share one, is measured on as many hosts' lines without daemons
(see `line_contention`), before the real run and after it: a rented machine may be a third slower a minute later.
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
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.line_contention import Message, contention_of, handling_of, real_exchange, write_run
from benchmarks.other_threads import others_sampled
from benchmarks.shaped_links import ShapedHost, sent_bytes, shaped_hosts, why_not
from gossamer.peer.commands.order import manifest_for
from gossamer.peer.commands.swarm import Place
from gossamer.peer.commands.up import Order, up
from gossamer.peer.event_kinds import Ended, RoundEnded, Traffic
from gossamer.peer.events import read_events
from gossamer.simulator.commands.calibrate import Order as CalibrateOrder
from gossamer.simulator.commands.calibrate import calibrate
from gossamer.simulator.costs import CostModel, Handling, load_costs, save_costs
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

ROUND_TRIP_S = 0.0003
"""Between namespaces, from `ping`."""
SETTINGS = ("task.d_model=64", "task.n_layers=3", "task.context=64", "limits.eval_every_steps=1000")
N_STAGES = 3
N_PARAMS, DEMO_BYTES, BOUNDARY_BYTES = 158_592, 99_320, 33_300
"""Of the model; of a payload of DeMo; of a microbatch between two stages: 8 samples of 64 tokens, 64 numbers each, and
a scale for 256 of them."""
MICROBATCHES = 6
"""Of a step."""
COUNTED_SHARE = 0.02
"""Purposes that make less of a run's bytes are not compared one by one."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is run; options that make the link the bottleneck."""

    method: str = "allreduce"
    options: tuple[str, ...] = ()
    batch: int = 2
    stages: int = 1

    def order(self, n_peers: int, steps: int) -> Order:
        """What is asked of `gossamer up`."""
        return Order(
            task="chars",
            method=self.method,
            steps=steps,
            batch=self.batch,
            stages=self.stages,
            strict=True,
            peers=n_peers,
            options=(*SETTINGS, *self.options),
        )

    def message(self, n_peers: int, folder: Path) -> Message:
        """What most of its bytes travel as.

        Args: folder: to write down in what hosts have to know of it.
        """
        if self.method == "demo":
            run = folder / "run.pickle"
            manifest, task = manifest_for(self.order(n_peers, 40), created="now", start_peers=n_peers, policy="open")
            write_run(task, manifest, n_peers, run)
            return Message(n_bytes=DEMO_BYTES, contribution=run)
        if self.stages > 1:  # forward and backward, of what a trainer has of a step
            in_a_row = 2 * max(1, MICROBATCHES // n_peers)
            return Message(n_bytes=BOUNDARY_BYTES, comes_back=True, in_a_row=in_a_row)
        return Message(n_bytes=4 * N_PARAMS // n_peers, comes_back=True)

    def peers(self, n_peers: int) -> int:
        return n_peers if self.stages == 1 else self.stages * max(1, n_peers // 4)


KINDS = {
    "demo": Kind(method="demo", options=("method.k=1024",)),
    "allreduce": Kind(),
    "pipeline": Kind(options=(f"pipeline.microbatches={MICROBATCHES}",), batch=8, stages=N_STAGES),
}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is compared."""

    wall_s: float
    round_s: float
    sent: dict[str, int]
    wire_bytes: float
    digests: tuple[str, ...]
    other_threads: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What was measured of them, without daemons."""

    handling: Handling
    contention: float

    @staticmethod
    def between(before: Lines, after: Lines) -> Lines:
        """The mean of two measurements."""
        told = after.handling.model_dump(include={"message_s", "chunk_s", "byte_s"})
        mean = {name: statistics.mean((getattr(before.handling, name), value)) for name, value in told.items()}
        contention = statistics.mean((before.contention, after.contention))
        return Lines(handling=Handling(**mean), contention=contention)


def real(kind: Kind, n_peers: int, mbit: float, steps: int, folder: Path) -> Figures:
    with shaped_hosts(n_peers, bits_per_s=mbit * 1e6) as hosts, others_sampled() as others:
        places = [Place(prefix=tuple(host.prefix), listen=host.address) for host in hosts]
        with contextlib.redirect_stdout(io.StringIO()):
            up(kind.order(n_peers, steps), out=folder, resume=None, json_output=True, places=places)
        wire_bytes = _wire_bytes(hosts)
    return figures(folder, wire_bytes=wire_bytes, other_threads=others.threads)


def simulated(n_peers: int, mbit: float, like: Path, other_threads: float, lines: Lines, folder: Path) -> Figures:
    costs = folder / "costs.toml"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        calibrate(CalibrateOrder(out=costs, like=like, at_once=n_peers), json_output=True)
    save_costs(on_lines(load_costs(costs), lines), costs)
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
    return figures(folder, wire_bytes=float(played.summary["wire_bytes"]), other_threads=other_threads)


def on_lines(costs: CostModel, lines: Lines) -> CostModel:
    """What was measured over the loopback device, with messages as these lines have them. What daemons do with
    contributions is in the price of their bytes."""
    wire = costs.wire.model_copy(update={"contention": lines.contention})
    handling = lines.handling.model_copy(update={"bookkeeping_s": costs.handling.bookkeeping_s})
    return costs.model_copy(update={"wire": wire, "handling": handling})


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


def _wire_bytes(hosts: Sequence[ShapedHost]) -> float:
    return float(sum(sent_bytes(host) for host in hosts))


# ------------------------------------------------------------------------------------------------------------ the page


def off(real: float, simulated: float) -> float:
    """How far a prediction is from the truth."""
    return simulated / real - 1 if real else 0.0


def row(key: str, real: Figures, simulated: Figures) -> list[str]:
    told = [key]
    for a, b in ((real.wall_s, simulated.wall_s), (real.round_s, simulated.round_s)):
        told.append(f"{a:.2f} / {b:.2f}  {off(a, b):+.0%}")
    for a, b in ((sum(real.sent.values()), sum(simulated.sent.values())), (real.wire_bytes, simulated.wire_bytes)):
        told.append(f"{a / 1e6:.2f} / {b / 1e6:.2f}  {off(a, b):+.1%}")
    return [*told, _worst_purpose(real.sent, simulated.sent), _agreement(real, simulated), f"{real.other_threads:.1f}"]


def _worst_purpose(real: dict[str, int], simulated: dict[str, int]) -> str:
    """Of those that make a part of the bytes worth the name, the one that is predicted worst."""
    least = COUNTED_SHARE * sum(real.values())
    worst = max((name for name, n in real.items() if n >= least), key=lambda name: abs(_off(name, real, simulated)))
    return f"{worst} {_off(worst, real, simulated):+.1%}"


def _off(name: str, real: dict[str, int], simulated: dict[str, int]) -> float:
    return off(real[name], simulated.get(name, 0))


def _agreement(real: Figures, simulated: Figures) -> str:
    return "same" if set(real.digests) == set(simulated.digests) else f"{len(real.digests)} / {len(simulated.digests)}"


def show(console: Console, results: dict[str, list[tuple[Figures, Figures]]]) -> None:
    table = Table(title="real / simulated")
    for head in ("run", "wall s", "round p50 s", "sent MB", "wire MB", "worst purpose", "digests", "others"):
        table.add_column(head, justify="left" if head == "run" else "right")
    for key, pairs in results.items():
        for was, predicted in pairs:
            table.add_row(*row(key, was, predicted))
    console.print(table)
    for key, pairs in results.items():
        told = [off(was.wall_s, predicted.wall_s) for was, predicted in pairs]
        if len(told) > 1:
            console.print(f"{key}: wall time {statistics.median(told):+.0%}, {min(told):+.0%} to {max(told):+.0%}")


def steps_for(name: str, mbit: float) -> int:
    """Enough for some ten seconds."""
    return 20 if name != "demo" and mbit < 50 else 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--mbit", type=float, nargs="+", default=[10, 100])
    parser.add_argument("--runs", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--repeat", type=int, default=1, help="each run so many times, by turns")
    parser.add_argument("--out", type=Path, default=Path("runs/truth.json"))
    chosen = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return
    console, results = Console(width=170), dict[str, list[tuple[Figures, Figures]]]()
    for _ in range(chosen.repeat):
        for key, of_both in compared(chosen.runs, chosen.peers, chosen.mbit, console):
            results.setdefault(key, []).append(of_both)
            console.print(*row(key, *of_both), sep="   ")
            save(results, chosen.out)
    show(console, results)


def compared(
    runs: Sequence[str], peers: Sequence[int], speeds: Sequence[float], console: Console
) -> Iterator[tuple[str, tuple[Figures, Figures]]]:
    """All runs, one after the other, real and simulated."""
    for mbit in speeds:
        for name in runs:
            for n_peers in map(KINDS[name].peers, peers):
                with tempfile.TemporaryDirectory() as folder:
                    yield f"{name}, {n_peers} daemons, {mbit:g} Mbit/s", one(name, n_peers, mbit, Path(folder), console)


def one(name: str, n_peers: int, mbit: float, folder: Path, console: Console) -> tuple[Figures, Figures]:
    message = KINDS[name].message(n_peers, folder)
    before = lines_of(n_peers, mbit, message, console)
    was = real(KINDS[name], n_peers, mbit, steps_for(name, mbit), folder / "real")
    lines = Lines.between(before, lines_of(n_peers, mbit, message, console))
    (folder / "simulated").mkdir()
    return was, simulated(n_peers, mbit, folder / "real", was.other_threads, lines, folder / "simulated")


def lines_of(n_hosts: int, mbit: float, message: Message, console: Console) -> Lines:
    """What messages and bytes cost, and what TCP loses where transfers share a line, by exchanges of hosts that do
    nothing else."""
    transport = handling_of(mbit)
    with others_sampled() as others:
        real = real_exchange(n_hosts, mbit, message)
    transport = message.handling(real, transport)
    costs = CostModel(handling=transport, cores=len(os.sched_getaffinity(0)))
    contention, alone_s = contention_of(real.seconds, n_hosts, mbit, message, costs, n_others=others.threads)
    console.print(
        f"{mbit:g} Mbit/s: a message costs {transport.message_s * 1e6:.0f} us at each end, "
        f"{(transport.chunk_s or 0) * 1e6:.0f} us within a stream, {transport.byte_s * 1e9:.2f} ns a byte; "
        f"{n_hosts} hosts' exchange of {message.n_bytes:,} bytes "
        f"{'there and back' if message.comes_back else 'each'} takes {real.seconds:.3f} s, {alone_s:.3f} s if lines "
        f"were shared exactly: contention {contention}",
        style="dim",
    )
    return Lines(handling=transport, contention=contention)


def save(results: dict[str, list[tuple[Figures, Figures]]], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {
        key: [{"real": asdict(a), "simulated": asdict(b)} for a, b in pairs] for key, pairs in results.items()
    }
    out.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
