"""What it does to `demo` in a stage when replicas count unequal numbers of microbatches: runs that should agree do not.

    python -m benchmarks.uneven_shares [--seeds 4] [--steps 150]

A small language model in three stages with two, two and three replicas, seven microbatches a step, in one process and
without a network: replicas are methods of the stage's parameters. Runs differ in nothing but which replica counts which
microbatch: dealt at random, as trainers do that take turns without knowing of each other, or evenly. `undisturbed`: all
replicas live; `disturbed`: the third stage loses one at a third of the steps, the second one of its two for a while.
Prints the held-out losses of each seed as JSON, and the largest difference between any two.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gossamer.algorithms import Method, Slots, build_method
from gossamer.algorithms.demo import DecoupledMomentum
from gossamer.algorithms.schedule import Schedule
from gossamer.tasks import Staged, build_task, cut_by_cost, global_batch, owned_names

N_REPLICAS = (2, 2, 3)
N_MICROBATCHES, N_SAMPLES = 7, 4
TASK_OPTIONS = {"d_model": 64, "n_layers": 5, "context": 32}

Deal = Callable[[random.Random, int], list[int]]
"""The replica of each microbatch, of so many."""
Gradients = dict[str, torch.Tensor]


def at_random(draw: random.Random, n_replicas: int) -> list[int]:
    """Each microbatch for itself."""
    return [draw.randrange(n_replicas) for _ in range(N_MICROBATCHES)]


def evenly(draw: random.Random, n_replicas: int) -> list[int]:
    """As many for each, or one more; who gets which is drawn."""
    shift = draw.randrange(n_replicas)
    dealt = [(i + shift) % n_replicas for i in range(N_MICROBATCHES)]
    draw.shuffle(dealt)
    return dealt


class Stage:
    """The replicas of one stage: a method each, and copies of its parameters."""

    def __init__(self, names: Sequence[str], parameters: Mapping[str, torch.Tensor], n_replicas: int) -> None:
        self.names = names
        self.n_replicas = n_replicas
        self.copies = [{name: parameters[name].detach().clone() for name in names} for _ in range(n_replicas)]
        schedule = Schedule(lr=DecoupledMomentum.default_lr)
        self.methods: list[Method] = [build_method("demo", copy, {}, schedule) for copy in self.copies]

    def step(self, number: int, gradients: Sequence[Gradients], dealt: Sequence[int]) -> Gradients:
        """Replicas encode what they count, and all combine it. Returns: the parameters."""
        contributors = sorted(set(dealt))
        payloads = []
        for replica in contributors:
            mine = [one for one, holder in zip(gradients, dealt, strict=True) if holder == replica]
            mean = {name: torch.stack([one[name] for one in mine]).mean(0) for name in self.names}
            self.methods[replica].accumulate(mean, len(mine) * N_SAMPLES)
            payloads.append(self.methods[replica].encode(np.empty(0, np.float32)))
        for replica, method in enumerate(self.methods):
            own = contributors.index(replica) if replica in contributors else None
            method.combine(payloads, mine=own, step=number, slots=Slots.everybody(len(payloads)))
        return self.copies[0]


def n_living(stage: int, share: float, *, disturbed: bool) -> int:
    """Replicas of a stage after this share of the steps."""
    lost = disturbed and ((stage == 2 and share >= 1 / 3) or (stage == 1 and 0.6 <= share < 0.8))
    return N_REPLICAS[stage] - lost


def held_out_loss(seed: int, steps: int, deal: Deal, *, disturbed: bool) -> float:
    """Of a run in which the seed says who counts what."""
    task = build_task("chars", TASK_OPTIONS)
    assert isinstance(task, Staged)
    draw, model = random.Random(seed), task.build_model(0)
    parameters = dict(model.named_parameters())
    owned = owned_names(task, cut_by_cost(task, len(N_REPLICAS)))
    stages = [Stage(names, parameters, n) for names, n in zip(owned, N_REPLICAS, strict=True)]
    for number in range(steps):
        size = N_MICROBATCHES * N_SAMPLES
        batches = global_batch(seed=0, round_index=number, size=size, n_train=task.n_train)
        gradients = []
        for batch in batches.reshape(N_MICROBATCHES, N_SAMPLES):
            loss = task.output_loss(model(task.inputs(batch)), task.targets(batch))
            gradients.append(dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)))
        for index, stage in enumerate(stages):
            dealt = deal(draw, n_living(index, number / steps, disturbed=disturbed))
            for name, values in stage.step(number, gradients, dealt).items():
                parameters[name].data.copy_(values)
    inputs, targets = task.held_out_batch()
    with torch.no_grad():
        return float(task.output_loss(model(inputs), targets))


def uneven_shares(n_seeds: int, steps: int) -> dict[str, Any]:
    """Losses of all runs, and how far apart they are."""
    found: dict[str, Any] = {}
    for deal in (at_random, evenly):
        losses = {
            name: [held_out_loss(seed, steps, deal, disturbed=name == "disturbed") for seed in range(n_seeds)]
            for name in ("undisturbed", "disturbed")
        }
        every = [loss for values in losses.values() for loss in values]
        found[deal.__name__] = {**losses, "largest_difference": max(every) - min(every)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=150)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(uneven_shares(asked.seeds, asked.steps), indent=1))


if __name__ == "__main__":
    main()
