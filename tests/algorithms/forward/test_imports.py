"""Devices load no torch with the mathematics they share with peers."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import gossamer.algorithms.forward

HEAVY = ("torch", "hivemind", "scipy", "numba", "pydantic", "sklearn", "onnxruntime", "onnx")


def test_forward_only_training_loads_no_heavy_library() -> None:
    package = gossamer.algorithms.forward
    modules = [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    code = f"import sys, {', '.join(modules)}; print(*(name for name in {HEAVY!r} if name in sys.modules))"

    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)

    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split() == []


def test_names_that_load_late_are_found_and_others_are_not() -> None:
    found = [getattr(gossamer.algorithms, name) for name in gossamer.algorithms.__all__]

    assert len(found) == len(gossamer.algorithms.__all__)
    assert gossamer.algorithms.Method.__name__ == "Method"
    with pytest.raises(AttributeError, match="NoSuchName"):
        gossamer.algorithms.NoSuchName  # noqa: B018
