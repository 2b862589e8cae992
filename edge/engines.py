"""What evaluates networks on this device: numpy, or onnxruntime where it is installed and was the quickest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..algorithms.forward import Engine, Network, NumpyEngine
from ..protocol.errors import UsageError

if TYPE_CHECKING:
    from ..algorithms.forward.fixedpoint.kernels import Kernel
    from .gradients import TorchGradients

NUMPY: Final = "numpy"
ONNX_INPUTS: Final = "onnx-inputs"
ONNX_CONSTANTS: Final = "onnx-constants"
ONNX: Final = "onnx"
FLOATS: Final = (NUMPY, ONNX_INPUTS, ONNX_CONSTANTS)
INTEGERS: Final = (NUMPY, ONNX)
BUDGET_BYTES: Final = 2 << 20
"""For several perturbations at a time: about what the second-level cache holds."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which engine to use. Raises UsageError for one that does not exist."""

    floats: str = NUMPY
    """numpy; onnx-inputs: weights are inputs of a graph; onnx-constants: a graph is built for every evaluation."""
    budget_bytes: int = BUDGET_BYTES
    """numpy: for several perturbations at a time; 0: one."""
    integers: str = NUMPY
    """numpy or onnx (MatMulInteger)."""

    def __post_init__(self) -> None:
        if self.floats not in FLOATS or self.integers not in INTEGERS:
            raise UsageError(f"no engine {self.floats!r} or {self.integers!r}: use {FLOATS} and {INTEGERS}")
        if not 0 <= self.budget_bytes <= 1 << 32:
            raise UsageError(f"a budget of {self.budget_bytes} bytes: use 0 to 4 GiB")

    @property
    def needs_onnx(self) -> bool:
        return (self.floats, self.integers) != (NUMPY, NUMPY)


class Engines:
    """Builds what was chosen. onnxruntime is imported when a run needs it and not before.

    Args: backpropagates: with torch, in runs that have a use for it.
    Raises ImportError, when an engine is asked for, if onnxruntime was chosen and is not installed.
    """

    def __init__(self, choice: Choice | None = None, *, backpropagates: bool = False) -> None:
        self.choice, self.backpropagates = choice or Choice(), backpropagates

    def engine(self, network: Network) -> Engine:
        """For float32."""
        match self.choice.floats:
            case "onnx-inputs":
                from ..algorithms.forward.onnx_engine import OnnxEngine

                return OnnxEngine(network)
            case "onnx-constants":
                from ..algorithms.forward.onnx_rebuilt import RebuiltOnnxEngine

                return RebuiltOnnxEngine(network)
        return NumpyEngine(network, memory_bytes=self.choice.budget_bytes)

    def gradients(self, network: Network) -> TorchGradients | None:
        """What backpropagates, where the owner wants it; raises ImportError without torch."""
        if not self.backpropagates:
            return None
        from .gradients import TorchGradients

        return TorchGradients(network)

    def kernel(self) -> Kernel:
        """For integers."""
        from ..algorithms.forward.fixedpoint.kernels import NumpyKernel, OnnxKernel

        return OnnxKernel() if self.choice.integers == ONNX else NumpyKernel()


def usable(choice: Choice) -> Choice:
    """The choice if this device can follow it, else numpy: onnxruntime may have been removed since."""
    from ..algorithms.forward.onnx_session import is_available

    return choice if not choice.needs_onnx or is_available() else Choice()


def candidates(*, onnx: bool) -> list[Choice]:
    """What to measure for float32, of numpy or of onnxruntime; those that take less memory first."""
    if onnx:
        return [Choice(floats=ONNX_INPUTS), Choice(floats=ONNX_CONSTANTS)]
    return [Choice(budget_bytes=budget) for budget in (0, 1 << 20, BUDGET_BYTES, 8 << 20, 32 << 20)]
