"""Options of a fixed-point run: what its owner chooses, and the constants that were calibrated from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...options import BadOption, require
from ..errors import BadNetwork, BadPlan
from .arithmetic import WEIGHT_MAX
from .calibrate import FixedPointOptions
from .plan import GUIDANCE_MAX, VOTES_MAX, Plan
from .scales import LayerScale

BITS_MAX = {16: WEIGHT_MAX, 8: 127}


@dataclass(frozen=True, kw_only=True)
class VotingOptions:
    """Options of fixed-point forward gradients."""

    n_votes: int = 3
    """m: directions that a device votes on in a round, two forward passes each."""
    n_devices: int = 10
    """Devices that are expected in a round: a unanimous round of so many moves a weight by eta."""
    epsilon: float = 0.01
    """Length of a perturbation of one weight."""
    eta: float = 0.05
    """How far a unanimous round moves a weight at first; it shrinks to 0 until the run's end.
    .005 to .03 suit a network that was trained before."""
    batch_size: int = 32
    weight_bits: int = 16
    """16, or 8 for comparison."""
    frozen: str = ""
    """Layers with weights, by number (such as "0,1"), that are neither perturbed nor updated:
    a sparse update."""
    guidance: int = 0
    """Momentum-guided sampling: a sign follows the votes' momentum with probability 2^-guidance. 0: never."""
    sharpness: float = 0.0
    """Sharpness-aware perturbation: every weight first goes so far uphill; twice the forward passes. 0: no."""
    kernelwise: bool = False
    """Kernel-wise normalisation: steps and updates in proportion to each kernel's own weights."""
    plan: str = ""
    """JSON of the calibrated plan; made when the run is made, and signed with it."""
    scales: str = ""
    """JSON of what the integers stand for, layer by layer: for evaluation."""

    def __post_init__(self) -> None:
        require(1 <= self.n_votes <= VOTES_MAX, "n_votes", f"between 1 and {VOTES_MAX}", self.n_votes)
        require(1 <= self.n_devices <= 2**16, "n_devices", "between 1 and 65536", self.n_devices)
        require(1e-6 <= self.epsilon <= 10, "epsilon", "between 1e-6 and 10", self.epsilon)
        require(1e-9 <= self.eta <= 10, "eta", "between 1e-9 and 10", self.eta)
        require(1 <= self.batch_size <= 2**20, "batch_size", "between 1 and 2^20", self.batch_size)
        require(self.weight_bits in BITS_MAX, "weight_bits", "8 or 16", self.weight_bits)
        require(0 <= self.guidance <= GUIDANCE_MAX, "guidance", f"between 0 and {GUIDANCE_MAX}", self.guidance)
        require(0 <= self.sharpness <= 10, "sharpness", "between 0 and 10", self.sharpness)
        words = [word for word in self.frozen.split(",") if word]
        require(all(word.isdecimal() for word in words), "frozen", "numbers with commas between them", self.frozen)

    def calibration(self, *, n_rounds: int, input_scale: float, input_offset: float) -> FixedPointOptions:
        """For `calibrate_scales`."""
        return FixedPointOptions(
            n_rounds=n_rounds,
            n_devices=self.n_devices,
            n_votes=self.n_votes,
            epsilon=self.epsilon,
            eta=self.eta,
            weight_max=BITS_MAX[self.weight_bits],
            input_scale=input_scale,
            input_offset=input_offset,
            frozen=tuple(int(word) for word in self.frozen.split(",") if word),
            guidance=self.guidance,
            sharpness=self.sharpness,
            kernelwise=self.kernelwise,
        )

    def calibrated(self, plan: Plan, scales: Sequence[LayerScale]) -> VotingOptions:
        """These options with the constants filled in."""
        return replace(
            self,
            plan=json.dumps(plan.to_dict(), separators=(",", ":")),
            scales=json.dumps([asdict(scale) for scale in scales], separators=(",", ":")),
        )

    def read_plan(self) -> Plan:
        """The calibrated plan. Raises BadOption."""
        require(bool(self.plan), "plan", "calibrated: make the run with `gossamer run new` or `gossamer up`", "")
        return plan_from_json(self.plan)

    def read_scales(self, plan: Plan) -> tuple[LayerScale, ...]:
        """What the plan's integers stand for. Raises BadOption."""
        try:
            scales = tuple(
                LayerScale(weight=float(one["weight"]), bias=float(one["bias"]), offset=float(one["offset"]))
                for one in _list(self.scales)
            )
        except (ValueError, TypeError, KeyError) as error:
            raise BadOption(f"option 'scales' cannot be used: {error}") from None
        if len(scales) != len(plan.layers):
            raise BadOption(f"option 'scales' must have one for each of {len(plan.layers)} layers, not {len(scales)}")
        return scales


def plan_from_json(text: str) -> Plan:
    """Raises BadOption."""
    try:
        return Plan.from_dict(json.loads(text))
    except (BadPlan, BadNetwork, ValueError, TypeError) as error:
        raise BadOption(f"option 'plan' cannot be used: {error}") from None


def _list(text: str) -> list[Any]:
    found = json.loads(text)
    if not isinstance(found, list):
        raise ValueError("expected a list")
    return found
