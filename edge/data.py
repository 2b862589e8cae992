"""A device's own samples. They stay where they are: only loss differences leave the device.

A data folder holds `inputs.npy` (float32 [n, ...], as the task's network takes them, or uint8, a quarter of the size:
0 to 255 stand for 0 to 1) and `labels.npy` (integers [n]); inputs are mapped, not loaded. A file DATA.npz holds the
same two arrays. Or the name `module:attribute` of a function without arguments that this device's owner installed and
that returns (inputs, labels).
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..algorithms.forward.batch import Batch
from ..algorithms.forward.network import Network
from ..protocol import devices
from ..protocol.errors import UsageError

_BLOCK_VALUES = 1 << 18
_MODULE_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class DeviceData:
    """Labelled samples of one device."""

    inputs: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    """float32 or uint8 [n, ...]; may be mapped from a file."""
    labels: npt.NDArray[np.int64]
    """int64 [n]."""

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, size: int, *, seed: bytes) -> Batch:
        """`size` samples (all, if there are fewer) that follow from the seed: a round computed again takes the same."""
        chosen = devices.chosen_samples(len(self), size, seed)
        inputs = np.ascontiguousarray(self.inputs[chosen], np.float32)
        if self.inputs.dtype == np.uint8:
            inputs /= np.float32(255)
        return Batch(inputs=inputs, labels=self.labels[chosen])

    def pixels(self, size: int, *, seed: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The same samples as bytes, with their labels. `check_bytes` says whether there are any."""
        chosen = devices.chosen_samples(len(self), size, seed)
        return np.ascontiguousarray(self.inputs[chosen], np.uint8), self.labels[chosen]

    def check_bytes(self) -> None:
        """Raise UsageError unless the samples are bytes."""
        if self.inputs.dtype != np.uint8:
            raise UsageError(f"samples of {self.inputs.dtype}: this run works in integers; store inputs as uint8")

    def check_fits(self, network: Network) -> None:
        """Raise UsageError unless the network takes these samples."""
        if self.inputs.shape[1:] != network.input_shape:
            raise UsageError(
                f"samples of shape {self.inputs.shape[1:]}: this run's network takes {network.input_shape}"
            )
        if int(self.labels.max()) >= network.n_classes:
            raise UsageError(
                f"label {int(self.labels.max())}: this run's network knows classes below {network.n_classes}"
            )


def load_data(source: str) -> DeviceData:
    """The samples of a folder, an .npz file or a loader. Raises UsageError."""
    if _MODULE_ATTRIBUTE.fullmatch(source) and not Path(source).exists():
        return _checked(*_call_loader(source), source)
    path = Path(source)
    try:
        if path.is_dir():
            inputs = np.load(path / "inputs.npy", mmap_mode="r", allow_pickle=False)
            return _checked(inputs, np.load(path / "labels.npy", allow_pickle=False), source)
        with np.load(path, allow_pickle=False) as arrays:
            return _checked(arrays["inputs"], arrays["labels"], source)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"the data {source} cannot be read ({error}): expected inputs and labels in .npy or .npz"
        ) from None


def _call_loader(source: str) -> tuple[Any, Any]:
    module, _, attribute = source.partition(":")
    try:
        inputs, labels = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"the loader {source} does not return (inputs, labels): {error}") from None
    return np.asarray(inputs), np.asarray(labels)


def _checked(inputs: npt.NDArray[Any], labels: npt.NDArray[Any], source: str) -> DeviceData:
    if inputs.dtype not in (np.float32, np.uint8) or labels.dtype.kind not in "iu":
        raise UsageError(
            f"{source}: inputs are {inputs.dtype} and labels {labels.dtype}: use float32 or uint8, and integers"
        )
    if labels.ndim != 1 or not len(labels) or len(inputs) != len(labels) or int(labels.min()) < 0:
        raise UsageError(
            f"{source}: inputs {inputs.shape} for labels {labels.shape}: give one label of 0.. to each sample"
        )
    if (bad := _first_that_is_not_finite(inputs)) is not None:
        raise UsageError(f"{source}: sample {bad} holds a value that is not finite: mend it or leave it out")
    return DeviceData(inputs=inputs, labels=labels.astype(np.int64))


def _first_that_is_not_finite(inputs: npt.NDArray[Any]) -> int | None:
    """Which sample; None: all are. A block at a time, for they may be more than memory holds."""
    if inputs.dtype == np.uint8:
        return None
    n_at_once = max(1, _BLOCK_VALUES * len(inputs) // max(1, inputs.size))
    for start in range(0, len(inputs), n_at_once):
        block = inputs[start : start + n_at_once].reshape(len(inputs[start : start + n_at_once]), -1)
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            return start + int(bad.argmax())
    return None
