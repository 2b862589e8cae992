"""What a step costs without training: our daemons' rounds beside hivemind's averager, in one run.

    python -m benchmarks.bench_rounds [--blocks 3] [--rounds 10] [--json]
    python -m benchmarks.bench_rounds --codecs    ours alone, dense, in fp32, bf16 and int8 by turns

Both sides are four processes on this machine with one thread for mathematics each. They take turns, block by block, so
that whatever else the machine does falls on both. A round is timed from the moment that all four are ready until the
last of them has the average, on both sides:

    ours      `gossamer up`: real daemons on a task whose gradient costs nothing. *Exchange*: from the last contribution
              being ready until the last daemon holds the agreed vector: moving, checking, adding and hashing it, and
              the round's votes and certificate. *With update*: AdamW and the SHA-256 of the new state as well.
    hivemind  `DecentralizedAverager` without compression. *Step*: finding the group and averaging. *All-reduce*:
              averaging alone, the group having been found beforehand. Values are checked against the true mean.

Ours must have committed each round with all four contributions and end with one digest. The floor is what the bytes of
an exchange would take over gRPC with TLS on this machine if they were only moved (see `floors.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gossamer.peer.event_kinds import RoundEnded, Traffic
from gossamer.peer.events import read_events

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.floors import loopback_tls_bytes_per_s, memcpy_bytes_per_s, sha256_bytes_per_s
from benchmarks.hivemind_swarm import HivemindSwarm

ROOT = Path(__file__).resolve().parent.parent
N_PEERS = 4
N_WARM_UP = 3
DENSE_PARAMS = 10_000_000
DEMO_PARAMS = 1_000_000
CODECS = ("fp32", "bf16", "int8")


@dataclass
class Figures:
    """Seconds, one entry a round."""

    demo_overhead: list[float] = field(default_factory=list)
    demo_exchange: list[float] = field(default_factory=list)
    dense_exchange: list[float] = field(default_factory=list)
    dense_with_update: list[float] = field(default_factory=list)
    hivemind_step: list[float] = field(default_factory=list)
    hivemind_allreduce: list[float] = field(default_factory=list)
    hivemind_wrong: int = 0
    """Rounds that it reported as successes with a wrong average: their times are not among the above."""
    floor: list[float] = field(default_factory=list)
    """One entry a block."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One of our rounds, over all daemons."""

    exchange_s: float
    with_update_s: float
    overheads_s: tuple[float, ...]
    """As each daemon reports it: from the last payload's arrival there until the decision was known there."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of our daemons."""

    rounds: list[Round]
    """Without those that warm up."""
    sent_bytes: float
    """By all daemons together, a round."""


def ours(method: str, n_params: int, n_rounds: int, *settings: str) -> Run:
    """A run of our daemons. Ends the benchmark if they did not do what was asked of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gossamer.cli", "up", "--peers", str(N_PEERS), "--method", method]
        command += ["--task", "benchmarks.weightless:Weightless", "--set", f"task.n_params={n_params}"]
        command += ["--steps", str(n_rounds + N_WARM_UP), "--out", folder + "/run", "--json"]
        command += ["--set", "limits.eval_every_steps=100000", "--set", "limits.checkpoint_every_steps=100000"]
        command += [word for setting in settings for word in ("--set", setting)]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        digests = set(json.loads(done.stdout)["state_digests"].values())
        if len(digests) != 1:
            raise SystemExit(f"our daemons disagree: {digests}")
        logs = sorted((Path(folder) / "run" / "peers").glob("*/events.jsonl"))
        rounds = _rounds(logs)
        sent_bytes = sum(_sent_bytes(log) for log in logs) / len(rounds)
        return Run(rounds=rounds[N_WARM_UP:], sent_bytes=sent_bytes)


def _sent_bytes(log: Path) -> int:
    told = [entry.event for entry in read_events(log) if isinstance(entry.event, Traffic)]
    return sum(n_bytes for name, n_bytes in told[-1].sent.items() if name.startswith("round/"))


def _rounds(logs: Sequence[Path]) -> list[Round]:
    told: dict[int, list[tuple[float, RoundEnded]]] = defaultdict(list)
    for log in logs:
        for entry in read_events(log):
            if isinstance(entry.event, RoundEnded):
                told[entry.event.round].append((entry.unix_s, entry.event))
    for index, events in told.items():
        if len(events) != N_PEERS or any(len(event.contributors) != N_PEERS for _, event in events):
            raise SystemExit(f"round {index} was not committed by all with all contributions: {events}")
    return [_round(told[index]) for index in sorted(told)]


def _round(events: list[tuple[float, RoundEnded]]) -> Round:
    updated = [end_s for end_s, _ in events]
    here = [end_s - event.update_s for end_s, event in events]
    ready = [here_s - event.exchange_s for here_s, (_, event) in zip(here, events, strict=True)]
    return Round(
        exchange_s=max(here) - max(ready),
        with_update_s=max(updated) - max(ready),
        overheads_s=tuple(event.overhead_s for _, event in events),
    )


def measure(n_blocks: int, n_rounds: int) -> Figures:
    """Both sides in turns."""
    figures = Figures()
    moved = 2 * (N_PEERS - 1) * 4 * DENSE_PARAMS
    for block in range(n_blocks):
        print(f"block {block + 1} of {n_blocks} ...", file=sys.stderr)
        figures.floor.append(moved / loopback_tls_bytes_per_s(N_PEERS))
        demo = ours("demo", DEMO_PARAMS, 2 * n_rounds).rounds
        figures.demo_overhead += [overhead_s for round_ in demo for overhead_s in round_.overheads_s]
        figures.demo_exchange += [round_.exchange_s for round_ in demo]
        with HivemindSwarm(N_PEERS, DENSE_PARAMS) as swarm:
            averagings = swarm.averagings(n_rounds // 2)
            figures.hivemind_wrong += swarm.n_wrong
        dense = ours("allreduce", DENSE_PARAMS, n_rounds).rounds
        with HivemindSwarm(N_PEERS, DENSE_PARAMS) as swarm:
            averagings += swarm.averagings(n_rounds // 2)
            figures.hivemind_wrong += swarm.n_wrong
        figures.dense_exchange += [round_.exchange_s for round_ in dense]
        figures.dense_with_update += [round_.with_update_s for round_ in dense]
        figures.hivemind_step += [averaging.step_s for averaging in averagings]
        figures.hivemind_allreduce += [averaging.allreduce_s for averaging in averagings]
    return figures


def measure_codecs(n_blocks: int, n_rounds: int) -> dict[str, list[Run]]:
    """Dense rounds of ours in each codec, by turns."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for block in range(n_blocks):
        for codec in CODECS:
            print(f"block {block + 1} of {n_blocks}: {codec} ...", file=sys.stderr)
            runs[codec].append(ours("allreduce", DENSE_PARAMS, n_rounds, f"method.codec={codec}"))
    return runs


def tell_codecs(runs: dict[str, list[Run]]) -> None:
    """The figures for a person."""
    print(f"\n{N_PEERS} processes on {os.cpu_count()} cores; ms per round: least, median, most")
    for codec, blocks in runs.items():
        rounds = [round_ for run in blocks for round_ in run.rounds]
        _row(f"dense, {DENSE_PARAMS / 1e6:.0f} M in {codec}: exchange", [round_.exchange_s for round_ in rounds])
        _row("    with AdamW and hash of the state", [round_.with_update_s for round_ in rounds])
        print(f"    sent by all together: {_median([run.sent_bytes for run in blocks]) / 1e6:.1f} MB a round")


def tell(figures: Figures) -> None:
    """The figures for a person."""
    print(f"\n{N_PEERS} processes on {os.cpu_count()} cores; ms per round: least, median, most")
    _row(f"demo, {DEMO_PARAMS / 1e6:.0f} M parameters: overhead", figures.demo_overhead)
    _row("    exchange, all ready until all have it", figures.demo_exchange)
    _row(f"dense, {DENSE_PARAMS / 1e6:.0f} M fp32: exchange", figures.dense_exchange)
    _row("    with AdamW and hash of the state", figures.dense_with_update)
    _row("hivemind, as many fp32: step", figures.hivemind_step)
    _row("    all-reduce alone, group found before", figures.hivemind_allreduce)
    if figures.hivemind_wrong:
        print(f"    left out: {figures.hivemind_wrong} rounds that hivemind calls successes, with a wrong average")
    _row("floor: only moving the dense bytes", figures.floor)
    exchange, update = _median(figures.dense_exchange), _median(figures.dense_with_update)
    step, allreduce, floor = map(_median, (figures.hivemind_step, figures.hivemind_allreduce, figures.floor))
    print("\nratios of medians")
    print(f"our exchange / hivemind's step              {exchange / step:.2f}")
    print(f"our exchange / hivemind's all-reduce alone  {exchange / allreduce:.2f}")
    print(f"our exchange with update / hivemind's step  {update / step:.2f}")
    print(f"our exchange / floor                        {exchange / floor:.2f}")
    print(f"hivemind's all-reduce alone / floor         {allreduce / floor:.2f}")
    print(f"\nmemcpy {memcpy_bytes_per_s() / 1e9:.1f} GB/s, SHA-256 {sha256_bytes_per_s() / 1e9:.1f} GB/s (one thread)")


def _row(name: str, seconds: Sequence[float]) -> None:
    least, median, most = min(seconds) * 1e3, _median(seconds) * 1e3, max(seconds) * 1e3
    print(f"{name:<44}{least:8,.0f}{median:8,.0f}{most:8,.0f}   n={len(seconds)}")


def _median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=3, help="turns of both sides")
    parser.add_argument("--rounds", type=int, default=10, help="dense rounds of each side in a block")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object instead of a table")
    parser.add_argument("--codecs", action="store_true", help="compare our codecs for dense rounds")
    chosen = parser.parse_args()
    if chosen.codecs:
        runs = measure_codecs(chosen.blocks, chosen.rounds)
        if chosen.json:
            print(json.dumps({codec: [asdict(run) for run in blocks] for codec, blocks in runs.items()}))
        else:
            tell_codecs(runs)
        return
    figures = measure(chosen.blocks, chosen.rounds)
    if chosen.json:
        answer: dict[str, Any] = asdict(figures)
        print(json.dumps(answer))
    else:
        tell(figures)


if __name__ == "__main__":
    main()
