"""Plans: what is accepted, what is refused, and how calibration meets its scales."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gossamer.algorithms.forward import BadPlan, Network, lenet_b, mlp
from gossamer.algorithms.forward.fixedpoint import (
    FixedPointOptions,
    Plan,
)
from gossamer.algorithms.forward.fixedpoint.calibrate import multiplier_and_shift
from gossamer.algorithms.forward.network import Conv, Flatten, Hardswish, Linear

from .cases import CONV, MLP, POOLED, calibrated

NETWORKS = [MLP, CONV, POOLED]
OPTIONS = FixedPointOptions(n_rounds=50)


def test_updates_shrink_to_nothing_over_the_run() -> None:
    plan, _ = calibrated(MLP, FixedPointOptions(n_rounds=4, eta=0.05))
    full = plan.layers[0].update

    assert [plan.update_at(0, step) for step in range(6)] == [
        full,
        (full * 49_152 + 32_768) >> 16,
        (full * 32_768 + 32_768) >> 16,
        (full * 16_384 + 32_768) >> 16,
        0,
        0,
    ]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_plan_survives_json(network: Network) -> None:
    plan, _ = calibrated(network, OPTIONS)

    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def _plain(**changes: Any) -> dict[str, Any]:
    return {**calibrated(MLP, OPTIONS)[0].to_dict(), **changes}


def _layer(**changes: Any) -> dict[str, Any]:
    return {"multiplier": 2**14, "shift": 20, "perturbation": 1, "update": 1, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [_layer()]},
        {"layers": [_layer(), _layer(multiplier=2**15)]},
        {"layers": [_layer(), _layer(shift=0)]},
        {"layers": [_layer(), _layer(shift=63)]},
        {"layers": [_layer(), _layer(perturbation=-1)]},
        {"layers": [_layer(), _layer(update=2**40)]},
        {"layers": [_layer(), _layer(update=1.0)]},
        {"layers": [_layer(), _layer(surplus=1)]},
        {"layers": [_layer(), 3]},
        {"n_rounds": 0},
        {"n_votes": True},
        {"surplus": 1},
        {"network": 5},
        {"network": mlp(2**16, 2, 10).to_dict()},
        {"network": lenet_b().to_dict()},
        {"network": Network(input_shape=(1, 4, 4), layers=(Flatten(), Linear(16, 9), Linear(9, 2))).to_dict()},
        {"network": Network(input_shape=(1, 4, 4), layers=(Conv(1, 1, 4), Flatten())).to_dict()},
        {"network": Network(input_shape=(9,), layers=(Hardswish(), Linear(9, 9))).to_dict()},
    ],
)
def test_plans_that_could_overflow_or_that_nobody_knows_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadPlan):
        Plan.from_dict(_plain(**changes))


@pytest.mark.parametrize("scale", [1.0, 4.6e-5, 0.004, 3.999999, 2**-14.0, 1e-9])
def test_a_scale_is_met_to_fifteen_bits(scale: float) -> None:
    multiplier, shift = multiplier_and_shift(scale)

    assert 2**14 <= multiplier < 2**15
    assert multiplier / 2**shift == pytest.approx(scale, rel=2**-14)
