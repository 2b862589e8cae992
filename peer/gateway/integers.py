"""A task in integers: its samples as bytes, its model as a fixed-point plan, its metric on the integers themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...algorithms.fixedpoint import FixedPoint
from ...algorithms.forward import BadPlan
from ...algorithms.forward.fixedpoint import (
    FloatKernel,
    IntegerBatch,
    IntegerEngine,
    VotingOptions,
    calibrate_scales,
    pixels_to_activations,
)
from ...algorithms.forward.network import Conv, Linear
from ...protocol.errors import UsageError
from ...tasks import Evaluation, Task
from ...tasks.classification import Classification, Labelled
from .describe import describe

BATCH = 500
N_CALIBRATION = 1000


def pixels(part: Labelled, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Samples as bytes: `low` is 0 and `high` is 255."""
    inputs = part.inputs.numpy()
    if inputs.dtype == np.uint8:
        return inputs
    scaled = np.rint((inputs.astype(np.float64) - low) * (255 / (high - low)))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def input_range(task: Classification) -> tuple[float, float]:
    """The values of the network's inputs that the bytes 0 and 255 stand for."""
    inputs = task.train.inputs
    if not inputs.is_floating_point():
        return 0.0, 1.0
    low, high = float(inputs.min()), float(inputs.max())
    return (low, high) if high > low else (low, low + 1.0)


def calibrated_options(task: Task, model: torch.nn.Module, options: VotingOptions, *, n_rounds: int) -> dict[str, Any]:
    """What of a run's options follows from its task, model and length. Done once, by the run's owner.

    Raises: UsageError for a task or model that fixed point does not know.
    """
    network = describe(task, model)
    assert isinstance(task, Classification)  # describe checks it
    low, high = input_range(task)
    first = network.layers[0]
    if low != 0 and not (isinstance(first, Linear) or (isinstance(first, Conv) and first.padding == 0)):
        raise UsageError(f"inputs from {low} up before a padded convolution: fixed point needs inputs from 0 up")
    weights = np.concatenate([parameter.detach().numpy().ravel() for parameter in model.parameters()])
    chosen = slice(None, None, max(1, task.n_train // N_CALIBRATION))
    samples = pixels(Labelled(inputs=task.train.inputs[chosen], labels=task.train.labels[chosen]), low, high)
    step = 2 / 255 * (high - low)
    inputs = (pixels_to_activations(samples) * step + low).astype(np.float32)
    try:
        calibration = options.calibration(n_rounds=n_rounds, input_scale=step, input_offset=low)
        plan, scales = calibrate_scales(network, weights.astype(np.float32), inputs, calibration)
    except BadPlan as error:
        raise UsageError(f"the model cannot be trained in fixed point: {error}") from None
    done = options.calibrated(plan, scales)
    return {"plan": done.plan, "scales": done.scales}


def evaluate_in_integers(task: Task, method: FixedPoint) -> Evaluation:
    """Loss and accuracy of the integer network on held-out samples."""
    assert isinstance(task, Classification)
    engine = IntegerEngine(method.plan, FloatKernel())
    part, bounds = task.held_out, input_range(task)
    samples = IntegerBatch(inputs=pixels_to_activations(pixels(part, *bounds)), labels=part.labels.numpy())
    losses, right = [], 0
    for start in range(0, len(samples), BATCH):
        chosen = slice(start, start + BATCH)
        batch = replace(samples, inputs=samples.inputs[chosen], labels=samples.labels[chosen])
        losses.append(engine.loss(method.weights, batch))
        right += engine.accuracy(method.weights, batch)[0]
    return Evaluation(loss=math.fsum(losses) / 65536 / len(samples), accuracy=right / len(samples))
