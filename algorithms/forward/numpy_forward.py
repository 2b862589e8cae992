"""The layers in numpy, for several weight vectors at once: arrays have a leading axis of evaluations.

As long as all evaluations see the same activations (up to the first layer with weights) that axis has length 1, and the
first layer is one large matrix product for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .network import Conv, Flatten, GlobalAveragePool, Hardswish, Layer, Linear, MaxPool, Network, ReLU

F32 = npt.NDArray[np.float32]


def forward(network: Network, weights: F32, inputs: F32) -> F32:
    """Logits of every evaluation.

    Args:
        weights: float32 [n_evaluations, n_parameters].
        inputs: float32 [n_samples, *input_shape], the same for all evaluations.
    Returns: float32 [n_evaluations, n_samples, n_classes].
    """
    tensors = _tensors(network, weights)
    x = inputs[None]
    for layer in network.layers:
        x = _apply(layer, x, tensors)
    logits: F32 = np.broadcast_to(x, (len(weights), *x.shape[1:]))
    return logits


def activation_floats(network: Network) -> int:
    """Floats that one sample needs at most at a time: a layer's input, its unrolled patches and its output."""
    shapes = network.shapes()
    return max(
        int(np.prod(before)) + int(np.prod(after)) + _patch_floats(layer, after)
        for layer, before, after in zip(network.layers, shapes, shapes[1:], strict=False)
    )


def patches(x: F32, kernel: int, padding: int) -> F32:
    """Unroll the windows of a convolution: [e, b, c, h, w] -> [e, b * h' * w', c * kernel * kernel], C order."""
    if padding:
        x = np.pad(x, ((0, 0), (0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(3, 4))
    e, b, c, h, w = windows.shape[:5]
    return windows.transpose(0, 1, 3, 4, 2, 5, 6).reshape(e, b * h * w, c * kernel * kernel)


def _patch_floats(layer: Layer, after: tuple[int, ...]) -> int:
    return layer.n_in * layer.kernel**2 * after[1] * after[2] if isinstance(layer, Conv) else 0


def _tensors(network: Network, weights: F32) -> Iterator[F32]:
    """Views [n_evaluations, *shape] in declared order."""
    for parameter in network.parameters():
        yield weights[:, parameter.start : parameter.stop].reshape(len(weights), *parameter.shape)


def _apply(layer: Layer, x: F32, tensors: Iterator[F32]) -> F32:
    match layer:
        case Linear():
            y = _matmul(x, next(tensors), next(tensors))
        case Conv():
            y = _conv(layer, x, next(tensors), next(tensors))
        case ReLU():
            y = np.maximum(x, np.float32(0))
        case Hardswish():
            y = _hardswish(x)
        case MaxPool():
            y = _max_pool(x, layer.size)
        case GlobalAveragePool():
            y = x.mean(axis=(3, 4))
        case Flatten():
            y = np.ascontiguousarray(x).reshape(*x.shape[:2], -1)
    return y


def _matmul(x: F32, weight: F32, bias: F32) -> F32:
    """x W^T + b: [e or 1, rows, n_in], [e, n_out, n_in], [e, n_out] -> [e, rows, n_out]."""
    e, n_out, n_in = weight.shape
    if len(x) == 1 and e > 1:
        product = (x[0] @ weight.reshape(e * n_out, n_in).T).reshape(-1, e, n_out).transpose(1, 0, 2)
    else:
        product = np.matmul(x, weight.transpose(0, 2, 1))
    product += bias[:, None, :]
    return product


def _conv(layer: Conv, x: F32, weight: F32, bias: F32) -> F32:
    n_samples, height, width = x.shape[1], x.shape[3], x.shape[4]
    unrolled = patches(x, layer.kernel, layer.padding)
    product = _matmul(unrolled, weight.reshape(len(weight), layer.n_out, -1), bias)
    shrink = 2 * layer.padding - layer.kernel + 1
    image = product.reshape(len(weight), n_samples, height + shrink, width + shrink, layer.n_out)
    return image.transpose(0, 1, 4, 2, 3)


def _hardswish(x: F32) -> F32:
    gate = x + np.float32(3)
    np.clip(gate, np.float32(0), np.float32(6), out=gate)
    gate *= x
    gate *= np.float32(1 / 6)
    return gate


def _max_pool(x: F32, size: int) -> F32:
    height, width = x.shape[3] // size, x.shape[4] // size
    corners = [
        x[:, :, :, row : row + height * size : size, column : column + width * size : size]
        for row in range(size)
        for column in range(size)
    ]
    largest = corners[0].copy(order="K")
    for corner in corners[1:]:
        np.maximum(largest, corner, out=largest)
    return largest
