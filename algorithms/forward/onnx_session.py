"""One onnxruntime session on one thread: the only place that touches the library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


class Session:
    """A model with one output, on the CPU, with one thread and no memory kept between runs beyond its arena.

    Raises: ImportError without onnxruntime.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A plan of a run's memory comes on top of what the arena holds already: a tenth more, for no speed.
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @classmethod
    def if_possible(cls, model: bytes) -> Session | None:
        """The session, or None if this build of onnxruntime does not know an operator of the model."""
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        try:
            return cls(model)
        except (state.Fail, state.NotImplemented, state.InvalidGraph, state.InvalidArgument):
            return None

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Any:
        """The output for these inputs, contiguous arrays."""
        return self._session.run(None, feeds)[0]


def is_available() -> bool:
    """Whether onnxruntime can be imported."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return np.dtype(np.float32).isnative
