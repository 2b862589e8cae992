"""What splitting a backward pass costs: when the input's gradient is there, and when the weights' are as well.

    python -m benchmarks.split_passes

The later stages of `chars`, cut in three, in a small size and as it is; milliseconds of a microbatch of 8, with the
activations computed anew, medians of passes that take turns: `forward`, `whole` (both gradients at once), `answer` (the
first of the two parts) and `both` (one after the other). `both` over `whole` is what splitting costs, `answer` over
`whole` what it brings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from gossamer.algorithms.pipeline.splitting import split_backward, whole_backward
from gossamer.tasks import Stage, Staged, build_stage, build_task, cut_by_cost

SIZES = {"d = 64": {"d_model": 64, "n_layers": 3, "context": 64}, "as it is": {}}
N_STAGES, N_SAMPLES, N_TURNS = 3, 8, 30


def main() -> None:
    torch.set_num_threads(1)
    print(json.dumps({size: _stages(options) for size, options in SIZES.items()}, indent=1))


def _stages(options: dict[str, int]) -> dict[str, dict[str, float]]:
    task = build_task("chars", options)
    assert isinstance(task, Staged)
    cut, indices = cut_by_cost(task, N_STAGES), np.arange(N_SAMPLES)
    stages = [build_stage(task, 0, cut, stage) for stage in range(N_STAGES)]
    entering = [task.inputs(indices)]
    for stage in stages:
        entering.append(stage(entering[-1]).detach())
    targets = task.targets(indices)
    return {f"stage {stage.index}": _stage(stage, entering[stage.index], targets) for stage in stages[1:]}


def _stage(stage: Stage, entering: Tensor, targets: Tensor) -> dict[str, float]:
    passes = {
        name: partial(work, stage, entering, targets)
        for name, work in (("forward", _forward), ("whole", _whole), ("answer", _answer), ("both", _both))
    }
    taken_ms: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(N_TURNS):
        for name, work in passes.items():
            taken_ms[name].append(_ms(work))
    medians = {name: median(values) for name, values in taken_ms.items()}
    ratios = {f"{name} / whole": medians[name] / medians["whole"] for name in ("answer", "both")}
    return {name: round(value, 3) for name, value in {**medians, **ratios}.items()}


def _ms(work: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begun_s)


def _forward(stage: Stage, entering: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """What is differentiated, its gradient (None: of a loss), and the input."""
    x = entering.detach().requires_grad_()
    out = stage(x)
    return (out, torch.ones_like(out), x) if stage.loss is None else (stage.loss(out, targets), None, x)


def _whole(stage: Stage, entering: Tensor, targets: Tensor) -> None:
    whole_backward(*_forward(stage, entering, targets), stage.trained)


def _answer(stage: Stage, entering: Tensor, targets: Tensor) -> None:
    split_backward(*_forward(stage, entering, targets), stage.trained)


def _both(stage: Stage, entering: Tensor, targets: Tensor) -> None:
    split_backward(*_forward(stage, entering, targets), stage.trained).weight_gradients()


if __name__ == "__main__":
    main()
