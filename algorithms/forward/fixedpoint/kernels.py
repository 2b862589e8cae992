"""The one heavy operation, uint8 by int8, in two ways that agree bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from ..onnx_format import INT8, INT32, UINT8, Node, Value, model_bytes
from ..onnx_session import Session

U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]


class Kernel(ABC):
    """A matrix product of activations and one half (high or low bytes) of the weights."""

    name: str

    @abstractmethod
    def multiply(self, activations: U8, weights: I8) -> I64:
        """Exact sums: uint8 [rows, n] of 0..127 by int8 [n, columns] -> int64 [rows, columns]."""


class NumpyKernel(Kernel):
    """int64 throughout: the reference, and what runs anywhere. numpy has no fast path for it."""

    name = "numpy int64"

    def multiply(self, activations: U8, weights: I8) -> I64:
        product: I64 = np.matmul(activations.astype(np.int64), weights.astype(np.int64))
        return product


class OnnxKernel(Kernel):
    """onnxruntime's MatMulInteger, one session for all shapes.

    Raises: ImportError without onnxruntime.
    """

    name = "onnxruntime MatMulInteger"

    def __init__(self) -> None:
        node = Node(operator="MatMulInteger", inputs=("a", "b"), output="y")
        a = Value(name="a", element=UINT8, shape=("rows", "n"))
        b = Value(name="b", element=INT8, shape=("n", "columns"))
        y = Value(name="y", element=INT32, shape=("rows", "columns"))
        self._session = Session(model_bytes([node], [a, b], [y]))

    def multiply(self, activations: U8, weights: I8) -> I64:
        feeds = {"a": np.ascontiguousarray(activations), "b": np.ascontiguousarray(weights)}
        product: I64 = self._session.run(feeds).astype(np.int64)
        return product
