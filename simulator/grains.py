"""How coarse a grain may be: headers are held whole, so that the lines carry them as many times as payloads' bytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scenario import Scenario

HELD_BYTES_MIN = 16 << 10
"""Of a message that is held in part. Its headers, some 300 bytes, are 2 % of so many."""
_BYTES_OF_ELEMENT = {"int8": 1, "fp16": 2, "none": 4}


def check_grain(scenario: Scenario) -> None:
    """Raises ValueError for a grain of which headers would be a good part of what is carried."""
    grain = scenario.run.sizes.grain
    for what, most in (("payload", _payloads_grain_max(scenario)), ("activations", _activations_grain_max(scenario))):
        if grain > max(1, most):
            raise ValueError(
                f"run.sizes.grain = {grain} leaves less than {HELD_BYTES_MIN} bytes of a message's {what}, and headers "
                f"would count {grain} times: set it to {max(1, most)} at most"
            )


def _payloads_grain_max(scenario: Scenario) -> float:
    """Of what one peer sends another: a stage's payload, or its part of one that is reduced."""
    sizes, n_stages = scenario.run.sizes, scenario.pipeline.stages
    n_parts = n_stages
    if sizes.exchange == "reduce" and scenario.fleet.kind != "trace":
        n_parts = max(n_stages, scenario.fleet.peers)
    return sizes.payload_bytes // (HELD_BYTES_MIN * n_parts)


def _activations_grain_max(scenario: Scenario) -> float:
    """Of a microbatch between two stages."""
    if scenario.pipeline.stages == 1:
        return math.inf
    sample_bytes = scenario.run.batch * _BYTES_OF_ELEMENT[scenario.pipeline.activations]
    return scenario.run.sizes.activation_elements // math.ceil(HELD_BYTES_MIN / sample_bytes)
