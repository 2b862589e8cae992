"""Handwritten digits, 8 x 8 pixels: scikit-learn's 1,797 samples and a small network. Trains in seconds."""

from __future__ import annotations

import importlib.util
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
from .errors import BadData, MissingData
from .fingerprint import fingerprint
from .staged import Staged

HELD_OUT_EVERY: Final = 5
N_PIXELS: Final = 64
N_CLASSES: Final = 10


@dataclass(frozen=True, kw_only=True)
class DigitsOptions:
    """Options of `digits`."""

    hidden: int = 32
    """Width of the hidden layer."""

    def __post_init__(self) -> None:
        require(1 <= self.hidden <= 1 << 20, "hidden", "between 1 and 1048576", self.hidden)


class Digits(Classification):
    """An MLP 64-hidden-10; every fifth sample is held out."""

    name = "digits"

    def __init__(self, *, options: Mapping[str, OptionValue], data: Path | None = None) -> None:
        self._options = read_options(DigitsOptions, options, owner="task 'digits'")
        if data is not None:
            raise BadData(f"task 'digits' comes with scikit-learn's data and takes no file, not {data}: leave it out")
        self._train, self._held_out = _load()

    @property
    def train(self) -> Labelled:
        return self._train

    @property
    def held_out(self) -> Labelled:
        return self._held_out

    def build_model(self, seed: int) -> nn.Module:
        hidden = self._options.hidden
        return initialise.build_initialised(
            lambda: nn.Sequential(nn.Linear(N_PIXELS, hidden), nn.ReLU(), nn.Linear(hidden, N_CLASSES)), seed
        )

    def fingerprint(self) -> str:
        return fingerprint(
            sources=(Digits, Classification, Staged, initialise.build_initialised),
            options=describe_options(self._options),
            data=[*self._train.bytes_for_fingerprint(), *self._held_out.bytes_for_fingerprint()],
        )

    def flops_per_sample(self) -> float:
        return 6.0 * self._options.hidden * (N_PIXELS + N_CLASSES)


def _load() -> tuple[Labelled, Labelled]:
    table = _read()
    inputs = torch.from_numpy(table[:, :N_PIXELS] / np.float32(8) - np.float32(1))
    classes = torch.from_numpy(table[:, N_PIXELS].astype(np.int64))
    is_held_out = torch.arange(len(classes)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return (
        Labelled(inputs=inputs[~is_held_out], labels=classes[~is_held_out]),
        Labelled(inputs=inputs[is_held_out], labels=classes[is_held_out]),
    )


def _read() -> npt.NDArray[np.float32]:
    """[sample][pixel, and then its label] of `sklearn.datasets.load_digits`, from the same file: to import scikit-learn
    takes a second, at each start of a daemon."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise MissingData("task 'digits' needs scikit-learn's data: pip install scikit-learn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        return np.loadtxt(path, delimiter=",", dtype=np.float32)
    except OSError as error:
        raise MissingData(f"scikit-learn's digits have moved ({error}): pip install scikit-learn==1.9.1") from error
