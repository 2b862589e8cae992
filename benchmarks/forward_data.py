"""Images for bench_forward: scikit-learn's digits, and Fashion-MNIST at 14 x 14, upright and rotated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.algorithms.forward import Batch
from gossamer.tasks.idx import read_idx

U8 = npt.NDArray[np.uint8]
FASHION_DIRS = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))


@dataclass(frozen=True, kw_only=True)
class Images:
    """Pixels and classes."""

    pixels: U8
    """uint8 [n, side, side]."""
    labels: npt.NDArray[np.int64]

    def floats(self, shape: tuple[int, ...]) -> Batch:
        """Samples of this shape, pixels / 255."""
        inputs = self.pixels.reshape(-1, *shape).astype(np.float32) / np.float32(255)
        return Batch(inputs=inputs, labels=self.labels)


def digits() -> tuple[Batch, Batch]:
    """Training and held-out samples, flat, within +-.5; every fifth is held out, as in the task."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs, held_out = (images / 16 - 0.5).astype(np.float32), np.arange(len(labels)) % 5 == 4
    labels = labels.astype(np.int64)
    train = Batch(inputs=inputs[~held_out], labels=labels[~held_out])
    return train, Batch(inputs=inputs[held_out], labels=labels[held_out])


def fashion(*, degrees: float = 0.0, n_train: int = 20_000, n_test: int = 2_000) -> tuple[Images, Images] | None:
    """Training and test images at 14 x 14 (means of 2 x 2), turned by an angle; None where they are not installed."""
    folder = next((path for path in FASHION_DIRS if path.is_dir()), None)
    if folder is None:
        return None
    return _load(folder, "train", n_train, degrees), _load(folder, "t10k", n_test, degrees)


def parts(batch: Any, n_parts: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Indices of equal parts of shuffled samples."""
    order = np.random.default_rng(seed).permutation(len(batch.labels))
    return np.array_split(order, n_parts)


def _load(folder: Path, split: str, n: int, degrees: float) -> Images:
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")[:n]
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz")[:n].astype(np.int64)
    if degrees:
        from scipy.ndimage import rotate

        turned = rotate(images.astype(np.float32), degrees, axes=(1, 2), reshape=False, order=1)
        images = np.clip(turned, 0, 255).astype(np.uint8)
    means = (images.reshape(-1, 14, 2, 14, 2).astype(np.uint16).sum(axis=(2, 4)) + 2) >> 2
    return Images(pixels=means.astype(np.uint8), labels=labels)
