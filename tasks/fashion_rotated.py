"""A network that knows upright clothes meets turned ones: Fashion-MNIST at 14 x 14, rotated, with a pretrained start.

The model's initial weights come from training by backpropagation on the upright pictures; the samples are the same
pictures rotated. It is what devices without backpropagation are asked to do: adapt what was trained elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..algorithms.options import OptionValue, describe_options, read_options, require
from . import initialise
from .classification import Classification, Labelled
from .fashion import DEBIAN_DIR, HALF, N_CLASSES, N_HELD_OUT_MAX, SIDE, evenly_spaced, load_split
from .fingerprint import fingerprint
from .idx import read_idx
from .staged import Staged

NETWORKS: Final = ("mlp", "conv")
BATCH: Final = 64
RATE: Final = 1e-3
GRID: Final = 2.0**10
"""Pretrained weights are multiples of 1 / GRID."""
SUBPIXELS: Final = 64
AT_ONCE: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class FashionRotatedOptions:
    """Options of `fashion-rotated`."""

    network: str = "mlp"
    """mlp: 196-hidden-10. conv: two small convolutions."""
    hidden: int = 64
    """Width of the mlp's hidden layer."""
    degrees: float = 20.0
    """By which the pictures are turned; 0: upright, at half the size."""
    pretraining_steps: int = 2000
    """Steps of Adam on upright pictures, 64 at a time, behind the initial weights."""

    def __post_init__(self) -> None:
        require(self.network in NETWORKS, "network", f"one of {', '.join(NETWORKS)}", self.network)
        require(1 <= self.hidden <= 4096, "hidden", "between 1 and 4096", self.hidden)
        require(-180 <= self.degrees <= 180, "degrees", "between -180 and 180", self.degrees)
        require(0 <= self.pretraining_steps <= 10**6, "pretraining_steps", "up to 10^6", self.pretraining_steps)


class FashionRotated(Classification):
    """An MLP 196-64-10, or a small convolutional network, pretrained on upright pictures."""

    name = "fashion-rotated"

    def __init__(self, *, options: Mapping[str, OptionValue], data: Path | None = None) -> None:
        self._options = read_options(FashionRotatedOptions, options, owner="task 'fashion-rotated'")
        folder = DEBIAN_DIR if data is None else data
        train, test = load_split(folder, "train"), load_split(folder, "t10k")
        chosen = torch.from_numpy(evenly_spaced(len(test.labels), N_HELD_OUT_MAX))
        self._upright = self._turned(train, 0.0)
        self._train = self._turned(train, self._options.degrees)
        held_out = Labelled(inputs=test.inputs[chosen], labels=test.labels[chosen])
        self._held_out = self._turned(held_out, self._options.degrees)
        self._pretrained: dict[int, nn.Module] = {}
        """By seed: a replica builds its model more than once."""

    @property
    def train(self) -> Labelled:
        return self._train

    @property
    def held_out(self) -> Labelled:
        return self._held_out

    def build_model(self, seed: int) -> nn.Module:
        if seed not in self._pretrained:
            fresh = initialise.build_initialised(self._build, seed)
            self._pretrained[seed] = pretrain(fresh, self._upright, self._options.pretraining_steps, seed)
        model = initialise.build_initialised(self._build, seed)
        model.load_state_dict(self._pretrained[seed].state_dict())
        return model

    def build_skeleton(self) -> nn.Module:
        return initialise.build_initialised(self._build, 0)

    def fingerprint(self) -> str:
        return fingerprint(
            sources=(FashionRotated, load_split, Classification, Staged, initialise.build_initialised, read_idx),
            options=describe_options(self._options),
            data=[
                *self._upright.bytes_for_fingerprint(),
                *self._train.bytes_for_fingerprint(),
                *self._held_out.bytes_for_fingerprint(),
            ],
        )

    def flops_per_sample(self) -> float:
        if self._options.network == "mlp":
            return 6.0 * self._options.hidden * (HALF**2 + N_CLASSES)
        return 6.0 * (9 * 8 * HALF**2 + 72 * 16 * 25 + 400 * N_CLASSES)

    def _turned(self, pictures: Labelled, degrees: float) -> Labelled:
        pixels = torch.from_numpy(turn_and_halve(pictures.inputs.numpy(), degrees))
        shape = (HALF**2,) if self._options.network == "mlp" else (1, HALF, HALF)
        return Labelled(inputs=pixels.view(-1, *shape), labels=pictures.labels)

    def _build(self) -> nn.Module:
        hidden = self._options.hidden
        if self._options.network == "mlp":
            return nn.Sequential(nn.Linear(HALF**2, hidden), nn.ReLU(), nn.Linear(hidden, N_CLASSES))
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(400, N_CLASSES),
        )


def pretrain(model: nn.Module, samples: Labelled, n_steps: int, seed: int) -> nn.Module:
    """Train by Adam and return the model in float32.

    In float64, and rounded to a coarse grid in the end: machines whose sums differ in the last bits get the same start.
    """
    model, rng = model.double(), np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for _ in range(n_steps):
        chosen = torch.from_numpy(rng.integers(0, len(samples.labels), BATCH))
        inputs = samples.inputs[chosen].double() / 255
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), samples.labels[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * GRID).round() / GRID)
    return model.float()


def turn_and_halve(pictures: npt.NDArray[np.uint8], degrees: float) -> npt.NDArray[np.uint8]:
    """Rotate about the centre (bilinear, black outside) and take means of 2 x 2 pixels, rounded to the nearest.

    Args:
        pictures: uint8 [n, ..., 28, 28].
    Returns: uint8 [n, 196], the same on every machine: all sums are integers that float32 holds exactly.
    """
    flat, matrix = pictures.reshape(-1, SIDE**2), _turning(degrees)
    turned = np.empty((len(flat), HALF**2), np.uint8)
    for start in range(0, len(flat), AT_ONCE):
        sums = flat[start : start + AT_ONCE].astype(np.float32) @ matrix
        share = 4 * SUBPIXELS**2
        turned[start : start + AT_ONCE] = (sums.astype(np.int32) + share // 2) // share
    return turned


def _turning(degrees: float) -> npt.NDArray[np.float32]:
    """What each pixel counts for in each pixel of the result, in units of 1 / (4 * SUBPIXELS^2), float32 [784, 196]."""
    matrix = np.zeros((SIDE, SIDE, HALF, HALF), np.float32)
    middle, cosine, sine = (SIDE - 1) / 2, math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for row in range(SIDE):
        for column in range(SIDE):
            down, right = row - middle, column - middle
            place = (middle + cosine * down + sine * right, middle - sine * down + cosine * right)
            (y, below), (x, beyond) = (divmod(round(SUBPIXELS * at), SUBPIXELS) for at in place)
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                if 0 <= y + dy < SIDE and 0 <= x + dx < SIDE:
                    weight = (below if dy else SUBPIXELS - below) * (beyond if dx else SUBPIXELS - beyond)
                    matrix[y + dy, x + dx, row // 2, column // 2] += weight
    return matrix.reshape(SIDE**2, HALF**2)
