"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): 28 x 28 pictures of clothes, a small network of either kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from torch import nn

from ..algorithms.options import OptionValue, describe_options, read_options, require
from . import initialise
from .classification import Classification, Labelled
from .errors import BadData, MissingData
from .fingerprint import fingerprint
from .idx import read_idx
from .staged import Staged

DEBIAN_DIR: Final = Path("/usr/share/datasets/fashion-mnist")
"""Where the package dataset-fashion-mnist puts its four files."""
SIDE: Final = 28
HALF: Final = 14
NETWORKS: Final = ("conv", "mlp")
N_CLASSES: Final = 10
N_HELD_OUT_MAX: Final = 2000
"""Evaluation uses this many test images, evenly spaced."""


@dataclass(frozen=True, kw_only=True)
class FashionOptions:
    """Options of `fashion`."""

    network: str = "conv"
    """conv: two convolutions on the pictures as they are. mlp: one hidden layer on pictures at half the size."""
    channels: int = 16
    """Of the first convolution; the second has twice as many."""
    hidden: int = 32
    """Width of the mlp's hidden layer."""

    def __post_init__(self) -> None:
        require(self.network in NETWORKS, "network", f"one of {', '.join(NETWORKS)}", self.network)
        require(1 <= self.channels <= 256, "channels", "between 1 and 256", self.channels)
        require(1 <= self.hidden <= 4096, "hidden", "between 1 and 4096", self.hidden)


class Fashion(Classification):
    """Two 3 x 3 convolutions with pooling and one linear layer, or an MLP 196-hidden-10."""

    name = "fashion"
    for_devices: ClassVar[Mapping[str, OptionValue]] = {"network": "mlp"}

    def __init__(self, *, options: Mapping[str, OptionValue], data: Path | None = None) -> None:
        self._options = read_options(FashionOptions, options, owner="task 'fashion'")
        folder = DEBIAN_DIR if data is None else data
        load = load_split if self._options.network == "conv" else _load_halved
        self._train = load(folder, "train")
        test = load(folder, "t10k")
        chosen = torch.from_numpy(evenly_spaced(len(test.labels), N_HELD_OUT_MAX))
        self._held_out = Labelled(inputs=test.inputs[chosen], labels=test.labels[chosen])

    @property
    def train(self) -> Labelled:
        return self._train

    @property
    def held_out(self) -> Labelled:
        return self._held_out

    def build_model(self, seed: int) -> nn.Module:
        return initialise.build_initialised(self._build, seed)

    def fingerprint(self) -> str:
        return fingerprint(
            sources=(Fashion, Classification, Staged, initialise.build_initialised, read_idx),
            options=describe_options(self._options),
            data=[*self._train.bytes_for_fingerprint(), *self._held_out.bytes_for_fingerprint()],
        )

    def flops_per_sample(self) -> float:
        channels = self._options.channels
        if self._options.network == "mlp":
            return 6.0 * self._options.hidden * (HALF**2 + N_CLASSES)
        macs = 9 * channels * SIDE**2 + 9 * 2 * channels**2 * (SIDE // 2) ** 2 + 2 * channels * 49 * N_CLASSES
        return 6.0 * macs

    def _build(self) -> nn.Module:
        channels, hidden = self._options.channels, self._options.hidden
        if self._options.network == "mlp":
            return nn.Sequential(nn.Linear(HALF**2, hidden), nn.ReLU(), nn.Linear(hidden, N_CLASSES))
        return nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * (SIDE // 4) ** 2, N_CLASSES),
        )


def load_split(folder: Path, split: str) -> Labelled:
    """Pictures uint8 [n, 1, 28, 28] of "train" or "t10k", whole. Raises MissingData, BadData."""
    images = read_idx(_find(folder, f"{split}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{split}-labels-idx1-ubyte"))
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or labels.shape != images.shape[:1] or not len(labels):
        raise BadData(f"{folder}: {split} has images {images.shape}, labels {labels.shape}, expected (n, 28, 28), (n,)")
    if labels.max() >= N_CLASSES:
        raise BadData(f"{folder}: {split} has a label {labels.max()}, expected 0 to {N_CLASSES - 1}")
    inputs = torch.from_numpy(images.copy()).unsqueeze(1)  # torch wants memory that may be written to
    return Labelled(inputs=inputs, labels=torch.from_numpy(labels.astype(np.int64)))


def _load_halved(folder: Path, split: str) -> Labelled:
    """Flat pictures of 14 x 14: means of 2 x 2 pixels, rounded to the nearest."""
    whole = load_split(folder, split)
    sums = whole.inputs.view(-1, HALF, 2, HALF, 2).sum(dim=(2, 4), dtype=torch.int16)
    return Labelled(inputs=((sums + 2) >> 2).to(torch.uint8).view(-1, HALF**2), labels=whole.labels)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise MissingData(
        f"there is no {name}[.gz] in {folder}: apt-get install dataset-fashion-mnist, or pass the folder of the four "
        "IDX files (--data DIR)"
    )


def evenly_spaced(n: int, n_max: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Indices of at most `n_max` of `n` samples."""
    return np.arange(n) if n <= n_max else np.linspace(0, n - 1, n_max).astype(np.int64)
