"""How much memory a stage takes, and what would fit a peer that gives no more than so many bytes.

Counted are weights, gradients and optimizer state, copies of them for newcomers and checkpoints, payloads, the
gradients that are held until a step is decided, and the daemon with its libraries and one microbatch's activations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...algorithms.pipeline.workload import BYTES_PER_PARAMETER
from ...protocol.errors import UsageError
from ...protocol.manifest import Manifest
from ...tasks import CannotCut, Cut, LayerCost, Staged, Task, cut_by_cost, estimate_costs
from ..rounds.roster import NO_STAGE
from .cutting import cut_of

Costs = tuple[LayerCost, ...]

DAEMON_BYTES = 500e6
"""A daemon and its libraries, with one microbatch's activations."""
COPIES_BYTES = 66.0
"""Of each parameter: copies of weights and moments (those that newcomers get, the checkpoint that is being written), of
payloads, and what the allocator does not give back. Measured: daemons of 6.3 million parameters that held the gradients
of four to eight microbatches took 1.07 to 1.14 GB."""
STATE_BYTES = BYTES_PER_PARAMETER + COPIES_BYTES
"""Of each parameter, with the gradient of one microbatch."""
WEIGHT_BYTES = 4.0
HELD_BYTES = 4.0
"""Of each parameter, for each microbatch whose gradient is held."""
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(|k|M|G|Ki|Mi|Gi)B?")


def parse_bytes(text: str) -> int:
    """600MB, 1.5GB, 2GiB, or bytes. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--max-memory {text!r}: write a size such as 600MB, 1.5GB or 2GiB")
    return int(float(match[1]) * UNITS[match[2]])


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes of each stage of a cut."""

    by_stage: tuple[float, ...]

    @property
    def largest(self) -> float:
        return max(self.by_stage)


def needs(costs: Costs, cut: Cut, n_microbatches: int, n_copies: int = 0) -> Needs:
    """What each stage takes if one replica holds the gradients of all of a step's microbatches.

    Args:
        n_copies: of the weights, besides those that are trained.
    """
    each = STATE_BYTES + WEIGHT_BYTES * n_copies + HELD_BYTES * (n_microbatches - 1 if cut.n_stages > 1 else 0)
    found = []
    for stage in range(cut.n_stages):
        parameters = {name: n for layer in cut.layers_of(stage) for name, n in costs[layer].parameters.items()}
        found.append(DAEMON_BYTES + each * sum(parameters.values()))
    return Needs(by_stage=tuple(found))


def copies_of(manifest: Manifest) -> int:
    """Copies of the weights that passes need: with a drift added, or of two versions."""
    if manifest.pipeline.mode != "synchronous":
        return 2
    return int(manifest.method.name in ("local", "diloco") and manifest.pipeline.stages > 1)


def held_max_within(cap: int, n_parameters: int, wanted: int, n_copies: int = 0) -> int:
    """So many microbatches' gradients may be held: `wanted`, or what fits if that is less, one at least.

    Args:
        n_copies: as for `needs`.
    """
    room = cap - DAEMON_BYTES - (STATE_BYTES - HELD_BYTES + WEIGHT_BYTES * n_copies) * n_parameters
    return max(1, min(wanted, int(room // (HELD_BYTES * max(1, n_parameters)))))


def check_memory(task: Task, manifest: Manifest, cap: int, stage: int | None = None) -> None:
    """See that a peer with `cap` bytes can serve this stage, or whichever it is given (None).

    Args:
        stage: None: any; NO_STAGE: none.
    Raises: UsageError that says what would fit.
    """
    if stage == NO_STAGE:
        if cap < DAEMON_BYTES:
            raise UsageError(f"--max-memory allows {_mb(cap)}, and a daemon that only trains needs {_mb(DAEMON_BYTES)}")
        return
    n_stages, n_microbatches = manifest.pipeline.stages, manifest.pipeline.microbatches
    if not isinstance(task, Staged):
        n = sum(parameter.numel() for parameter in task.build_model(manifest.run.seed).parameters())
        need = DAEMON_BYTES + STATE_BYTES * n
        if need > cap:
            raise UsageError(
                f"the model needs {_mb(need)} in one piece, --max-memory allows {_mb(cap)}, and task {task.name!r} "
                "cannot be cut: make it a Staged task, or give more memory"
            )
        return
    costs = estimate_costs(task)
    cut = cut_of(task, manifest, costs)
    found = needs(costs, cut, n_microbatches, copies_of(manifest))
    wanted = found.largest if stage is None else found.by_stage[stage]
    if wanted > cap:
        what = "the model in one piece" if n_stages == 1 else f"stage {found.by_stage.index(wanted)} of {n_stages}"
        raise UsageError(
            f"{what} needs {_mb(wanted)} (weights, gradients, optimizer, copies for newcomers and checkpoints, and "
            f"{_mb(DAEMON_BYTES)} for the daemon), --max-memory allows {_mb(cap)}: "
            f"{_remedy(task, costs, manifest, cap, found)}"
        )


def _remedy(task: Staged, costs: Costs, manifest: Manifest, cap: int, found: Needs) -> str:
    fits = [str(stage) for stage, need in enumerate(found.by_stage) if need <= cap]
    least, is_cut_by_cost = found.largest, not manifest.pipeline.starts
    without = "" if is_cut_by_cost else " without pipeline.starts"
    for more in range(len(found.by_stage) + is_cut_by_cost, len(costs) + 1):
        try:
            cut = cut_by_cost(task, more, costs)
            largest = needs(costs, cut, manifest.pipeline.microbatches, copies_of(manifest)).largest
        except CannotCut:
            break
        least = min(least, largest)
        if largest <= cap:
            others = f", or stage {' or '.join(fits)} of this cut" if fits else ""
            return f"--stages {more}{without} would fit, with {_mb(largest)} in the largest{others}"
    return f"no cut fits; {_mb(least)} would"


def _mb(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
