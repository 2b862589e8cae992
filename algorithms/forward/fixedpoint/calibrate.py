"""From a float network to a fixed-point plan: done once by the run's owner, in float; devices see integers only.

s_w = 1.5 * max|w| / w_max per layer, s_y = 1.25 * q99.95 of its activations / 127, P = max(1, round(eps / s_w)),
U = round(256 * eta / (s_w * m * C)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import BadPlan
from ..network import Conv, Linear, Network
from ..numpy_forward import activations_after
from .arithmetic import ACTIVATION_MAX, LOGIT_BITS, WEIGHT_MAX
from .plan import LayerPlan, Plan
from .scales import LayerScale, quantise

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]

PIXEL_SCALE = 2 / 255
"""s_x of pixels p / 255 as activations (p + 1) >> 1."""


@dataclass(frozen=True, kw_only=True)
class FixedPointOptions:
    """What the owner chooses."""

    n_rounds: int
    n_devices: int = 10
    n_votes: int = 3
    """m."""
    epsilon: float = 0.01
    """Length of a perturbation of one weight."""
    eta: float = 0.005
    """How far a unanimous round moves a weight at first."""
    weight_max: int = WEIGHT_MAX
    """Largest integer weight: 32,639 in 16 bits, 127 for comparison with 8 bits."""
    input_scale: float = PIXEL_SCALE
    """Value of an activation of 1 in the input."""
    input_offset: float = 0.0
    """Value of an activation of 0 in the input; not 0 only before layers without padding."""
    frozen: tuple[int, ...] = ()
    """Layers with weights (by number) that are neither perturbed nor updated."""
    guidance: int = 0
    sharpness: float = 0.0
    """How far every weight goes uphill before a vote is cast; 0: not at all."""
    kernelwise: bool = False


def calibrate(network: Network, weights: F32, inputs: F32, options: FixedPointOptions) -> tuple[Plan, I16]:
    """The plan and the integer weights of a float network, as `calibrate_scales` and `quantise` give them."""
    plan, scales = calibrate_scales(network, weights, inputs, options)
    return plan, quantise(plan, scales, weights)


def calibrate_scales(
    network: Network, weights: F32, inputs: F32, options: FixedPointOptions
) -> tuple[Plan, tuple[LayerScale, ...]]:
    """The plan of a float network, and what its integers stand for.

    Args:
        weights: float32 [network.n_parameters].
        inputs: float32 [n, *input_shape], samples that are typical of what devices will see.
    Raises: BadPlan.
    """
    tensors = [weights[p.start : p.stop].reshape(p.shape) for p in network.parameters()]
    outputs = activations_after(network, weights, inputs)
    weighted = [index for index, layer in enumerate(network.layers) if isinstance(layer, Linear | Conv)]
    scale_in, layers, scales = options.input_scale, [], []
    for number, index in enumerate(weighted):
        kernel, bias = tensors[2 * number], tensors[2 * number + 1]
        offset = options.input_offset if number == 0 else 0.0
        bias = bias + np.float32(offset) * kernel.reshape(len(kernel), -1).sum(axis=1)
        # The bias in units of a weight: it meets an activation of 127.
        largest = max(float(np.abs(kernel).max()), float(np.abs(bias).max()) / (ACTIVATION_MAX * scale_in))
        scale_w = 1.5 * largest / options.weight_max
        if scale_w == 0:
            raise BadPlan(f"layer {index} has no weight but 0: it cannot be calibrated")
        is_last = number == len(weighted) - 1
        scale_out = 2.0**-LOGIT_BITS if is_last else _activation_scale(outputs[index])
        layers.append(_layer_plan(scale_w, scale_in, scale_out, number in options.frozen, options))
        scales.append(LayerScale(weight=scale_w, bias=scale_w * ACTIVATION_MAX * scale_in, offset=offset))
        scale_in = scale_out
    plan = Plan(
        network=network,
        layers=tuple(layers),
        n_rounds=options.n_rounds,
        n_votes=options.n_votes,
        guidance=options.guidance,
        kernelwise=int(options.kernelwise),
    )
    return plan, tuple(scales)


def multiplier_and_shift(scale: float) -> tuple[int, int]:
    """M and s with M / 2^s as near to the scale as 15 bits allow.

    Raises: BadPlan for a scale that no shift from 1 to 48 reaches.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise BadPlan(f"a scale of {scale} cannot be expressed")
    shift = 14 - math.floor(math.log2(scale))
    multiplier = round(scale * 2.0**shift)
    if multiplier == 2**15:
        multiplier, shift = 2**14, shift - 1
    return multiplier, shift


def _layer_plan(
    scale_w: float, scale_in: float, scale_out: float, is_frozen: bool, options: FixedPointOptions
) -> LayerPlan:
    multiplier, shift = multiplier_and_shift(scale_w * scale_in / scale_out)
    update = round(256 * options.eta / (scale_w * options.n_votes * options.n_devices))
    return LayerPlan(
        multiplier=multiplier,
        shift=shift,
        perturbation=0 if is_frozen else max(1, round(options.epsilon / scale_w)),
        update=0 if is_frozen else update,
        ascent=0 if is_frozen else round(options.sharpness / scale_w),
    )


def _activation_scale(outputs: F32) -> float:
    largest = float(np.quantile(np.maximum(outputs, 0), 0.9995))
    if largest == 0:
        raise BadPlan("a layer is silent on the calibration samples: use more of them")
    return 1.25 * largest / ACTIVATION_MAX
