"""What each communication method buys: every arm at the same number of samples, each with its own best learning rate.

    python -m benchmarks.bench_methods [--task chars fashion] [--size small] [--arms demo-8bit ...] [--jobs 2]

Four peers run the daemons' own code in the simulated world: the same arithmetic as four processes, in one. Each arm is
swept over learning rates with seed 0 (the grid grows while its best is at an edge), its two best rates are run with two
more seeds, and the better mean of three counts: a rate that is best once may be one that often fails. Runs are kept in
`--out` and not repeated. Held-out loss (and accuracy), payload and traffic go to the terminal, to OUT.md, and as a plot
to OUT.html.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

N_PEERS = 4
SEEDS = (0, 1, 2)
FACTORS = (1 / 3, 1.0, 3.0)
GROWTH = 3.0
FINALISTS = 2
"""Rates of each arm that are run with every seed."""
RATES_MAX = 6


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained."""

    task_options: tuple[str, ...]
    steps: int
    batch: int


SIZES: dict[str, dict[str, Size]] = {
    "small": {
        "chars": Size(task_options=("task.d_model=64", "task.n_layers=3", "task.context=64"), steps=300, batch=8),
        "fashion": Size(task_options=("task.channels=8",), steps=200, batch=32),
        "digits": Size(task_options=(), steps=200, batch=16),
    },
    "long": {
        "chars": Size(task_options=("task.d_model=64", "task.n_layers=3", "task.context=64"), steps=900, batch=8),
        "fashion": Size(task_options=("task.channels=8",), steps=900, batch=32),
        "digits": Size(task_options=(), steps=600, batch=16),
    },
    "full": {
        "chars": Size(task_options=(), steps=900, batch=8),
        "fashion": Size(task_options=(), steps=900, batch=32),
        "digits": Size(task_options=(), steps=400, batch=16),
    },
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A method with options, and the learning rate around which its sweep begins."""

    method: str
    lr: float
    options: tuple[str, ...] = ()


_SGD = ("method.optimizer=sgd", "method.momentum=0.9")
ARMS: dict[str, Arm] = {
    "adamw": Arm(method="allreduce", lr=3e-3),
    "sgd": Arm(method="allreduce", lr=0.1, options=_SGD),
    "demo-8bit": Arm(method="demo", lr=3e-3, options=("method.k=32", "method.value_bits=8")),
    "demo-1bit": Arm(method="demo", lr=3e-3, options=("method.k=32", "method.value_bits=1")),
    "demo-k128": Arm(method="demo", lr=3e-3, options=("method.k=128", "method.value_bits=8")),
    "terngrad-sgd": Arm(method="terngrad", lr=0.1, options=_SGD),
    "terngrad-adam": Arm(method="terngrad", lr=3e-3),
    "local-h4": Arm(method="local", lr=3e-3, options=("method.h=4",)),
    "local-h16": Arm(method="local", lr=3e-3, options=("method.h=16",)),
    "qsr-h4": Arm(method="local", lr=3e-3, options=("method.h=4", "method.rule=qsr")),
    "diloco-h20": Arm(method="diloco", lr=3e-3, options=("method.h=20",)),
    "sparseloco-h20": Arm(method="sparseloco", lr=3e-3, options=("method.h=20",)),
}
STUDY: dict[str, Arm] = {
    "demo-beta95": Arm(method="demo", lr=3e-3, options=("method.beta=0.95",)),
    "demo-beta999": Arm(method="demo", lr=3e-3, options=("method.beta=0.999",)),
    "demo-decay": Arm(method="demo", lr=3e-3, options=("method.weight_decay=0.1",)),
}
"""What it takes to reach what the papers claim; run only when named."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of the sweep."""

    task: str
    size: str
    arm: str
    lr: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.task} {self.size} {self.arm} lr={self.lr:.3g} seed={self.seed}"


def execute(run: Run) -> dict[str, Any]:
    """Train it, in this process, on one thread."""
    import torch

    from benchmarks.simulated import train
    from gossamer.peer.commands.order import Order

    torch.set_num_threads(1)
    size, arm = SIZES[run.size][run.task], {**ARMS, **STUDY}[run.arm]
    options = (
        *size.task_options,
        *arm.options,
        "group.strict=true",
        "schedule.kind=cosine",
        f"schedule.warmup_steps={size.steps // 10}",
        f"limits.eval_every_steps={max(1, size.steps // 8)}",
        f"limits.checkpoint_every_steps={size.steps}",
    )
    order = Order(
        task=run.task, method=arm.method, steps=size.steps, seed=run.seed, batch=size.batch, lr=run.lr, options=options
    )
    return {**dataclasses.asdict(run), **dataclasses.asdict(train(order, n_peers=N_PEERS))}


@dataclass
class Book:
    """Finished runs, kept on disk."""

    path: Path
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Book:
        return cls(path, json.loads(path.read_text()) if path.exists() else {})

    def keep(self, run: Run, result: dict[str, Any]) -> None:
        self.runs[run.key] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.runs, indent=1))

    def loss(self, run: Run) -> float:
        """The last; infinite if it was not finite."""
        losses = self.runs[run.key]["losses"]
        return float(losses[-1][1]) if losses else math.inf


def sweep(book: Book, pool: Pool, console: Console, tasks: Sequence[str], size: str, arms: Sequence[str]) -> None:
    """Run everything that is missing: rates first, then seeds."""
    places = [(task, arm) for task in tasks for arm in arms]
    for _ in range(RATES_MAX):
        wanted = [run for task, arm in places for run in missing_rates(book, task, size, arm)]
        if not wanted:
            break
        run_all(book, pool, console, wanted)
    finals = [
        Run(task=task, size=size, arm=arm, lr=lr, seed=seed)
        for task, arm in places
        for lr in by_loss(book, task, size, arm)[:FINALISTS]
        for seed in SEEDS
    ]
    run_all(book, pool, console, [run for run in finals if run.key not in book.runs])


def run_all(book: Book, pool: Pool, console: Console, runs: Sequence[Run]) -> None:
    for number, (run, result) in enumerate(zip(runs, pool.imap(execute, runs), strict=True), 1):
        book.keep(run, result)
        console.print(f"[{number}/{len(runs)}] {run.key}: {book.loss(run):.4f} ({result['wall_s']:.0f} s)")


def missing_rates(book: Book, task: str, size: str, arm: str) -> list[Run]:
    """The grid's rates that were not run yet; beyond it while the best rate is at its edge."""
    grid = [Run(task=task, size=size, arm=arm, lr={**ARMS, **STUDY}[arm].lr * factor, seed=0) for factor in FACTORS]
    missing = [run for run in grid if run.key not in book.runs]
    if missing:
        return missing
    done = sorted(by_loss(book, task, size, arm))
    best = by_loss(book, task, size, arm)[0]
    edge = best * GROWTH if best == done[-1] else best / GROWTH if best == done[0] else None
    if edge is None or len(done) >= RATES_MAX:
        return []
    return [Run(task=task, size=size, arm=arm, lr=edge, seed=0)]


def by_loss(book: Book, task: str, size: str, arm: str) -> list[float]:
    """The rates that were run with seed 0, best first."""
    runs = book.runs.values()
    rates = [r["lr"] for r in runs if (r["task"], r["size"], r["arm"], r["seed"]) == (task, size, arm, 0)]
    return sorted(rates, key=lambda lr: book.loss(Run(task=task, size=size, arm=arm, lr=lr, seed=0)))


def best_rate(book: Book, task: str, size: str, arm: str) -> float:
    """Of those that were run with every seed, the one with the least mean loss."""

    def mean(lr: float) -> float:
        return statistics.fmean(book.loss(Run(task=task, size=size, arm=arm, lr=lr, seed=seed)) for seed in SEEDS)

    return min(by_loss(book, task, size, arm)[:FINALISTS], key=mean)


# -- what came of it -------------------------------------------------------------------------------


HEADS = ("arm", "best lr", "held-out loss", "± (3 seeds)", "accuracy", "payload B/param/step", "sent MB/peer", "rounds")


def rows(book: Book, task: str, size: str, arms: Sequence[str]) -> list[tuple[str, ...]]:
    """One row an arm, formatted."""
    table: list[tuple[str, ...]] = []
    for arm in arms:
        lr = best_rate(book, task, size, arm)
        runs = [book.runs[Run(task=task, size=size, arm=arm, lr=lr, seed=seed).key] for seed in SEEDS]
        losses = [run["losses"][-1][1] if run["losses"] else math.inf for run in runs]
        accuracies = [run["accuracy"] for run in runs if run["accuracy"] is not None]
        payload = runs[0]["payload_bytes"] * runs[0]["rounds"] / SIZES[size][task].steps / runs[0]["n_params"]
        table.append(
            (
                arm,
                f"{lr:.2g}",
                f"{statistics.fmean(losses):.4f}",
                f"{(max(losses) - min(losses)) / 2:.4f}",
                f"{100 * statistics.fmean(accuracies):.1f} %" if accuracies else "",
                f"{payload:.4f}",
                f"{statistics.fmean(run['sent_bytes'] for run in runs) / 1e6:.2f}",
                str(runs[0]["rounds"]),
            )
        )
    return table


def show(console: Console, title: str, table: Sequence[tuple[str, ...]]) -> None:
    shown = Table(title=title)
    for number, head in enumerate(HEADS):
        shown.add_column(head, justify="right" if number else "left")
    for row in table:
        shown.add_row(*row)
    console.print(shown)


def markdown(title: str, table: Sequence[tuple[str, ...]]) -> str:
    lines = [f"### {title}", "", "| " + " | ".join(HEADS) + " |", "|---|" + "---:|" * (len(HEADS) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in table), ""])


def plot(book: Book, tasks: Sequence[str], size: str, arms: Sequence[str], path: Path) -> None:
    """Held-out loss against what a peer has sent by then."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(tasks), subplot_titles=list(tasks))
    for column, task in enumerate(tasks, 1):
        for arm in arms:
            run = book.runs[Run(task=task, size=size, arm=arm, lr=best_rate(book, task, size, arm), seed=0).key]
            total = SIZES[size][task].steps
            sent = [run["sent_bytes"] * step / total / 1e6 for step, _ in run["losses"]]
            losses = [loss for _, loss in run["losses"]]
            curve = go.Scatter(x=sent[1:], y=losses[1:], name=arm, mode="lines+markers", showlegend=column == 1)
            figure.add_trace(curve, row=1, col=column)
    figure.update_xaxes(type="log", title="MB sent by a peer")
    figure.update_yaxes(title="held-out loss")
    figure.write_html(path, include_plotlyjs=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", default=["chars", "fashion"], choices=["chars", "fashion", "digits"])
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=[*ARMS, *STUDY])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    chosen = parser.parse_args()
    console, book = Console(), Book.open(chosen.out.with_suffix(".json"))
    with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
        sweep(book, pool, console, chosen.task, chosen.size, chosen.arms)
    texts = []
    for task in chosen.task:
        size = SIZES[chosen.size][task]
        title = f"{task}, {chosen.size}: {N_PEERS} peers, {size.steps} steps of {size.batch} samples each"
        table = rows(book, task, chosen.size, chosen.arms)
        show(console, title, table)
        texts.append(markdown(title, table))
    chosen.out.with_suffix(".md").write_text("\n".join(texts))
    plot(book, chosen.task, chosen.size, chosen.arms, chosen.out.with_suffix(".html"))
    console.print(f"{chosen.out}.json, .md and .html")


if __name__ == "__main__":
    main()
