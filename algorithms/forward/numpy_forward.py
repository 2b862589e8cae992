"""The layers in numpy, for several weight vectors at once: arrays have a leading axis of evaluations.

Images are kept with channels last, so that a convolution's windows are copied in long runs and one matrix product does
the rest. Until the first layer with weights all evaluations see the same activations, and that axis has length 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from .network import Conv, Flatten, GlobalAveragePool, Hardswish, Layer, Linear, MaxPool, Network, ReLU, Shape

F32 = npt.NDArray[np.float32]
Pixels = TypeVar("Pixels", npt.NDArray[np.float32], npt.NDArray[np.uint8])

BLOCK_FLOATS: Final = 2**21
"""Samples go through the network in blocks whose activations have at most about so many floats (8 MiB)."""


class NumpyForward:
    """The network on one batch of inputs.

    Args:
        inputs: float32 [n_samples, *input_shape].
    """

    def __init__(self, network: Network, inputs: F32) -> None:
        self._network = network
        images = inputs.transpose(0, 2, 3, 1) if inputs.ndim == 4 else inputs
        first = network.layers[0]
        size = max(1, BLOCK_FLOATS // activation_floats(network))
        self._blocks = [np.ascontiguousarray(images[start : start + size]) for start in range(0, len(images), size)]
        if isinstance(first, Conv):
            # Unrolled once for all evaluations, since all have the same inputs.
            self._blocks = [windows(block, first.kernel, first.padding) for block in self._blocks]

    def __call__(self, weights: F32) -> F32:
        """Logits float32 [n_evaluations, n_samples, n_classes] for weights float32 [n_evaluations, n_parameters]."""
        tensors = _tensors(self._network, weights)
        blocks = [self._forward(block[None], tensors) for block in self._blocks]
        logits: F32 = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
        full: F32 = np.broadcast_to(logits, (len(weights), *logits.shape[1:]))
        return full

    def _forward(self, x: F32, tensors: Sequence[F32]) -> F32:
        remaining = iter(tensors)
        for index, layer in enumerate(self._network.layers):
            if isinstance(layer, Conv) and index > 0:
                x = windows(x, layer.kernel, layer.padding)
            x = _apply(layer, x, remaining)
        return x


def activation_floats(network: Network) -> int:
    """Floats that one sample needs at most at a time: a layer's input, windows and output, and a gate's."""
    shapes = network.shapes()
    return max(
        math.prod(before) + _window_floats(layer, after) + 2 * math.prod(after)
        for layer, before, after in zip(network.layers, shapes, shapes[1:], strict=False)
    )


def activations_after(network: Network, weights: F32, inputs: F32) -> list[F32]:
    """What every layer puts out, float32 [n_samples, ...] with channels last: for the calibration of fixed point."""
    x = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1) if inputs.ndim == 4 else inputs)[None]
    remaining, outputs = iter(_tensors(network, weights[None])), []
    for layer in network.layers:
        x = _apply(layer, windows(x, layer.kernel, layer.padding) if isinstance(layer, Conv) else x, remaining)
        outputs.append(x[0])
    return outputs


def windows(images: Pixels, kernel: int, padding: int) -> Pixels:
    """Unroll what a convolution sees: [..., h, w, c] -> [..., h', w', kernel * kernel * c]."""
    if padding:
        edges = [(0, 0)] * (images.ndim - 3) + [(padding, padding), (padding, padding), (0, 0)]
        images = np.pad(images, edges)
    images = np.ascontiguousarray(images)
    *outer, h, w, c = images.shape
    # Strides are computed, since numpy leaves those of an axis of length 1 undefined.
    item = images.itemsize
    sample, row, column = h * w * c * item, w * c * item, c * item
    # One row of a window is kernel * c neighbours in memory.
    shape = (math.prod(outer), h - kernel + 1, w - kernel + 1, kernel, kernel * c)
    view = np.lib.stride_tricks.as_strided(images, shape, (sample, row, column, row, item), writeable=False)
    return view.reshape(*outer, *shape[1:3], kernel * kernel * c)


def _window_floats(layer: Layer, after: Shape) -> int:
    return layer.n_in * layer.kernel**2 * after[1] * after[2] if isinstance(layer, Conv) else 0


def _tensors(network: Network, weights: F32) -> list[F32]:
    """Tensors [n_evaluations, *shape] in declared order: views, but for kernels, which follow `windows`."""
    tensors = []
    for parameter in network.parameters():
        tensor = weights[:, parameter.start : parameter.stop].reshape(len(weights), *parameter.shape)
        if tensor.ndim == 5:
            tensor = np.ascontiguousarray(tensor.transpose(0, 1, 3, 4, 2)).reshape(*tensor.shape[:2], -1)
        tensors.append(tensor)
    return tensors


def _apply(layer: Layer, x: F32, tensors: Iterator[F32]) -> F32:
    match layer:
        case Linear():
            y = _linear(x, next(tensors), next(tensors))
        case Conv():
            rows = x.reshape(len(x), -1, x.shape[-1])
            y = _linear(rows, next(tensors), next(tensors))
            y = y.reshape(len(y), *x.shape[1:-1], layer.n_out)
        case ReLU():
            y = np.maximum(x, np.float32(0))
        case Hardswish():
            y = _hardswish(x)
        case MaxPool():
            y = _max_pool(x, layer.size)
        case GlobalAveragePool():
            y = x.mean(axis=(2, 3))
        case Flatten():
            y = np.ascontiguousarray(x.transpose(0, 1, 4, 2, 3)).reshape(*x.shape[:2], -1)
    return y


def _linear(x: F32, weight: F32, bias: F32) -> F32:
    """x W^T + b: [e or 1, b, n_in], [e, n_out, n_in], [e, n_out] -> [e, b, n_out]."""
    product: F32 = np.matmul(x, weight.transpose(0, 2, 1))
    product += bias[:, None, :]
    return product


def _hardswish(x: F32) -> F32:
    gate = x + np.float32(3)
    np.clip(gate, np.float32(0), np.float32(6), out=gate)
    gate *= x
    gate *= np.float32(1 / 6)
    return gate


def _max_pool(x: F32, size: int) -> F32:
    """[e, b, h, w, c] -> [e, b, h / size, w / size, c]: rows first, whose elements are neighbours in memory."""
    height, width = x.shape[2] // size, x.shape[3] // size
    rows = x[:, :, : height * size, : width * size].reshape(*x.shape[:2], height, size, width, size, x.shape[4])
    tallest = _maximum([rows[:, :, :, offset] for offset in range(size)])
    return _maximum([tallest[:, :, :, :, offset] for offset in range(size)])


def _maximum(arrays: list[F32]) -> F32:
    largest: F32 = arrays[0].copy() if len(arrays) == 1 else np.maximum(arrays[0], arrays[1])
    for array in arrays[2:]:
        np.maximum(largest, array, out=largest)
    return largest
