"""What evaluates networks on this device: numpy, or onnxruntime where it is installed and chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..algorithms.forward import Engine, Network, NumpyEngine

if TYPE_CHECKING:
    from ..algorithms.forward.fixedpoint.kernels import Kernel

BUDGET_BYTES = 2 << 20
"""For several perturbations at a time: about what the second-level cache holds."""


class Engines:
    """numpy's, which run anywhere."""

    def engine(self, network: Network, batch_size: int) -> Engine:
        """For float32."""
        return NumpyEngine(network, memory_bytes=BUDGET_BYTES)

    def kernel(self) -> Kernel:
        """For integers."""
        from ..algorithms.forward.fixedpoint.kernels import NumpyKernel

        return NumpyKernel()
