"""Training by forward passes takes little more memory than inference, whatever K."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.algorithms.forward import lenet_b
from gossamer.algorithms.forward.onnx_session import is_available

ROOT = Path(__file__).parents[3]
WEIGHTS_MIB = 4 * lenet_b().n_parameters / 2**20

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's high-water mark")


def peak_mib(side: str) -> float:
    """In a process of its own, above what it held before."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.forward_memory", side],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return float(done.stdout)


@pytest.mark.parametrize("library", ["numpy", "onnxruntime"])
def test_training_peaks_at_a_tenth_above_inference_and_one_copy_of_the_weights(library: str) -> None:
    if library == "onnxruntime" and not is_available():
        pytest.skip("onnxruntime is not installed")

    inference = peak_mib(f"{library} inference")
    training = peak_mib(f"{library} training, K = 200")

    assert training <= 1.1 * inference + WEIGHTS_MIB
