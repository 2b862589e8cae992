"""What one liar among five peers does to training, under every rule.

    python -m benchmarks.bench_liars [--task digits|chars] [--steps 1000] [--only demo/reject,...] [--json liars.json]
    python -m benchmarks.bench_liars --show liars.json [more.json]

Five replicas in one process train a small network (digits) or a small character GPT (chars); the arithmetic is that of
daemons, without their network. Peer 4 lies in every round:

    flipped         what it should send, negated
    x1000           what it should send, a thousand times
    random          noise as long as its gradient
    flipped x1000   negated, a thousand times

In each cell: loss on held-out samples at the end (nats), and by how much it is above the clean run of the same rule.
Dropped: how often a rule left out the liar, and the others (mean of the four).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gossamer.algorithms import Exchange, Method, OptionValue, Schedule, Slots, build_method
from gossamer.tasks import Task, build_task, round_batches

N_PEERS: Final = 5
LIAR: Final = 4
BATCH_SIZE: Final = 8
SEED: Final = 1
TASKS: Final[Mapping[str, Mapping[str, OptionValue]]] = {
    "digits": {},
    "chars": {"d_model": 32, "n_layers": 1, "n_heads": 2, "context": 32},
}
RATES: Final = {"demo": 4e-3, "allreduce": 1e-2}
"""The best of three each on clean runs of 300 steps of chars, with two layers: see --sweep."""
ATTACKS: Final = ("clean", "flipped", "x1000", "random", "flipped x1000")
RULES: Final = {
    **{f"demo/{rule}": {"combine": rule} for rule in ("senders", "normclip", "reject", "vote")},
    **{
        f"allreduce/{rule}": {"aggregate": rule}
        for rule in ("mean", "trimmed", "median", "krum", "multikrum", "clip", "centered")
    },
}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How one run ended."""

    rule: str
    attack: str
    loss: float
    """NaN if the run left the floats."""
    dropped: tuple[int, ...]
    """Rounds that each peer was dropped in."""
    seconds: float


class Peer:
    """A replica's parameters and method; the liar's gradients are not what they should be."""

    def __init__(self, rule: str, model: torch.nn.Module, schedule: Schedule, attack: str) -> None:
        self.parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.attack = attack
        name = rule.partition("/")[0]
        options: dict[str, OptionValue] = dict(RULES[rule])
        if "x1000" in attack and name == "demo":
            options["clip"] = 0.0  # a liar does not clip its gradient; it is clipped below, before it is scaled
        self.method: Method = build_method(name, self.parameters, options, schedule)
        self._noise = torch.Generator().manual_seed(SEED)
        self._clips = name == "demo"

    def learn(self, gradients: Mapping[str, torch.Tensor]) -> None:
        self.method.accumulate(dict(self._told(gradients)), BATCH_SIZE)

    def _told(self, gradients: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        if self.attack == "clean":
            return gradients
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        if self.attack == "random":
            noise = {name: torch.randn(g.shape, generator=self._noise) for name, g in gradients.items()}
            length = math.sqrt(sum(float(g.square().sum()) for g in noise.values()))
            return {name: g * (norm / length) for name, g in noise.items()}
        scale = {"flipped": -1.0, "x1000": 1e3, "flipped x1000": -1e3}[self.attack]
        if self._clips and self.attack != "flipped":
            scale *= min(1.0, 1.0 / norm)
        return {name: g * scale for name, g in gradients.items()}


def train(task: Task, rule: str, attack: str, steps: int, lr: float | None = None) -> Ending:
    """One run from the same weights, on the same samples."""
    begun_s = time.perf_counter()
    method = rule.partition("/")[0]
    schedule = Schedule(lr=lr or RATES[method], kind="cosine", warmup_steps=20, total_steps=steps, floor=0.1)
    model = task.build_model(SEED)
    peers = [Peer(rule, model, schedule, attack if slot == LIAR else "clean") for slot in range(N_PEERS)]
    dropped = [0] * N_PEERS
    for step in range(steps):
        _set(model, peers[0].parameters)
        batches = round_batches(
            seed=SEED, round_index=step, n_members=N_PEERS, batch_size=BATCH_SIZE, n_steps=1, n_train=task.n_train
        )
        for peer, indices in zip(peers, batches[0], strict=True):
            names, weights = zip(*model.named_parameters(), strict=True)
            gradients = torch.autograd.grad(task.loss(model, indices), weights)
            if not all(bool(g.isfinite().all()) for g in gradients):
                return _ending(rule, attack, math.nan, dropped, begun_s)
            peer.learn(dict(zip(names, gradients, strict=True)))
        for slot in _exchange(peers, step):
            dropped[slot] += 1
    _check_equal(peers)
    _set(model, peers[0].parameters)
    return _ending(rule, attack, task.evaluate(model).loss, dropped, begun_s)


def _exchange(peers: Sequence[Peer], step: int) -> tuple[int, ...]:
    payloads = [peer.method.encode(np.empty(0, np.float32)) for peer in peers]
    method = peers[0].method
    for payload in payloads:
        method.check(payload)
    if method.exchange is Exchange.REDUCE:
        payloads = [method.reduce([np.frombuffer(payload, np.uint8) for payload in payloads], 0).tobytes()]
    slots = Slots.everybody(N_PEERS)
    told = [p.method.combine(payloads, mine=slot, step=step, slots=slots) for slot, p in enumerate(peers)]
    return told[0]


@torch.no_grad()
def _set(model: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])


def _check_equal(peers: Sequence[Peer]) -> None:
    for peer in peers:
        for name, parameter in peer.parameters.items():
            assert torch.equal(parameter, peers[0].parameters[name]), f"{name} differs between replicas"


def _ending(rule: str, attack: str, loss: float, dropped: Sequence[int], begun_s: float) -> Ending:
    return Ending(rule=rule, attack=attack, loss=loss, dropped=tuple(dropped), seconds=time.perf_counter() - begun_s)


def tabulate(endings: Sequence[Ending], steps: int) -> Table:
    """Rules down, attacks across."""
    table = Table(title=f"One liar among {N_PEERS}, {steps} steps: loss (above clean); dropped liar / others")
    for heading in ("rule", *ATTACKS, "liar dropped", "others dropped"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    by_cell = {(ending.rule, ending.attack): ending for ending in endings}
    for rule in dict.fromkeys(ending.rule for ending in endings):
        row = [by_cell[rule, attack] for attack in ATTACKS]
        liar = [round(100 * ending.dropped[LIAR] / steps) for ending in row[1:]]
        others = [round(100 * sum(ending.dropped[:LIAR]) / LIAR / steps) for ending in row[1:]]
        drops = any(any(ending.dropped) for ending in row)
        table.add_row(
            rule,
            f"{row[0].loss:.3f}",
            *(f"{ending.loss:.3f} ({ending.loss - row[0].loss:+.3f})" for ending in row[1:]),
            " ".join(f"{percent}%" for percent in liar) if drops else "-",
            " ".join(f"{percent}%" for percent in others) if drops else "-",
        )
    return table


def sweep(task: Task, steps: int, console: Console) -> None:
    """The loss of clean runs by learning rate."""
    for rule, rates in (("demo/normclip", (2e-3, 4e-3, 8e-3)), ("allreduce/mean", (3e-3, 1e-2, 2e-2))):
        for rate in rates:
            console.print(f"{rule} lr {rate:g}: {train(task, rule, 'clean', steps, rate).loss:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(TASKS), default="digits")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", default=",".join(RULES), help="rules, separated by commas")
    parser.add_argument("--json", type=Path, help="write all endings to this file")
    parser.add_argument("--show", type=Path, nargs="+", help="only print the table of such files")
    parser.add_argument("--sweep", action="store_true", help="only compare learning rates on clean runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=150)
    if arguments.show:
        kept = [Ending(**ending) for file in arguments.show for ending in json.loads(file.read_text())]
        console.print(tabulate(kept, arguments.steps))
        return
    task = build_task(arguments.task, TASKS[arguments.task])
    if arguments.sweep:
        sweep(task, arguments.steps, console)
        return
    cells = [(rule, attack) for rule in arguments.only.split(",") for attack in ATTACKS]
    endings = []
    with Progress(console=Console(file=sys.stderr)) as progress:
        bar = progress.add_task("runs", total=len(cells))
        for rule, attack in cells:
            progress.update(bar, description=f"{rule}, {attack}")
            endings.append(train(task, rule, attack, arguments.steps))
            progress.advance(bar)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps([asdict(ending) for ending in endings], indent=1))
    console.print(tabulate(endings, arguments.steps))


if __name__ == "__main__":
    main()
