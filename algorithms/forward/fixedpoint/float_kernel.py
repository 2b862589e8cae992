"""The matrix product for gateways, which have a floating-point unit and recompute what many devices did."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .kernels import Kernel

U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]


class FloatKernel(Kernel):
    """float64 products, exact because every partial sum is an integer below 2^53: the devices' bits, sooner."""

    name = "numpy float64"

    def multiply(self, activations: U8, weights: I8) -> I64:
        product: I64 = np.matmul(activations.astype(np.float64), weights.astype(np.float64)).astype(np.int64)
        return product
