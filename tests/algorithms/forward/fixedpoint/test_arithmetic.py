"""Integer arithmetic against the vectors of the specification."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gossamer.algorithms.forward.fixedpoint as package
from gossamer.algorithms.forward.fixedpoint import (
    NumpyKernel,
    pixels_to_activations,
)
from gossamer.algorithms.forward.fixedpoint.arithmetic import (
    WEIGHT_MAX,
    average,
    displacement,
    requantise,
    split,
    to_logits,
)


def test_split_and_requantise_vectors() -> None:
    weights = np.array([300, -200, 32_639], np.int16)

    high, low = split(weights)
    activations = np.array([[127, 3, 127]], np.uint8)
    sums = [NumpyKernel().multiply(activations, half[:, None]) for half in (high, low)]
    accumulator = 256 * sums[0] + sums[1]

    assert high.tolist() == [1, -1, 127]
    assert low.tolist() == [44, 56, 127]
    assert accumulator.tolist() == [[4_182_653]]
    assert requantise(accumulator, 18_118, 32).tolist() == [[18]]


@given(st.integers(-WEIGHT_MAX, WEIGHT_MAX))
def test_two_signed_bytes_hold_every_weight(weight: int) -> None:
    high, low = split(np.array([weight], np.int16))

    assert 256 * int(high[0]) + int(low[0]) == weight
    assert -127 <= high[0] <= 127


@pytest.mark.parametrize(
    ("update", "total", "moved"), [(5993, 7, 164), (5993, -7, -164), (4, 31, 0), (4, 32, 1), (4, -32, 0), (4, -33, -1)]
)
def test_update_vectors(update: int, total: int, moved: int) -> None:
    assert displacement(update, np.array([total])).tolist() == [moved]


def test_negative_sums_are_cut_and_logits_shift_arithmetically() -> None:
    sums = np.array([-(2**40), -3, 0, 2**40], np.int64)

    assert requantise(sums, 2**14, 15).tolist() == [0, 0, 0, 127]
    assert to_logits(sums, 2**14, 15).tolist() == [-(2**17), -1, 0, 2**17]


def test_pixels_become_activations_of_seven_bits() -> None:
    assert pixels_to_activations(np.array([0, 1, 2, 127, 128, 254, 255], np.uint8)).tolist() == [
        0,
        1,
        1,
        64,
        64,
        127,
        127,
    ]


def test_averages_round_half_up() -> None:
    images = np.array([[[[1], [2]]], [[[1], [1]]], [[[127], [127]]]], np.uint8)

    assert average(images).tolist() == [[2], [1], [127]]


def test_no_float_on_the_device() -> None:
    """Modules that are not the run's owner's or a gateway's: no float type, no float literal, no true division."""
    for path in sorted(Path(package.__file__).parent.glob("*.py")):
        if path.stem in {"calibrate", "float_kernel", "options", "scales"}:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not isinstance(node, ast.Div), path
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), path
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            assert name not in {"float", "float16", "float32", "float64", "mean", "sqrt", "true_divide"}, (path, name)
