"""Coefficients as bytes."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.algorithms import BadPayload
from gossamer.algorithms.quantize import EXPONENT_MAX, VALUE_ABS_MAX, bytes_of_values, decode_values, encode_values

COUNTS = np.array([2, 3], np.int64)
VALUES = np.array([1.27, -0.635, 1e-6, -3e-7, 0.0], np.float32)


def _round_trip(values: np.ndarray[tuple[int], np.dtype[np.float32]], value_bits: int) -> list[float]:
    counts = np.array([min(len(values), 2), max(len(values) - 2, 0)], np.int64)
    exponent, encoded = encode_values(values, counts, value_bits)
    assert len(encoded) == bytes_of_values(len(values), 2, value_bits)
    decoded: list[float] = decode_values(encoded, counts, value_bits, exponent).tolist()
    return decoded


def test_eight_bits_err_by_at_most_half_a_step_of_the_tile() -> None:
    decoded = _round_trip(VALUES, 8)

    steps = np.array([1.27, 1.27, 1e-6, 1e-6, 1e-6]) / 127
    assert (np.abs(decoded - VALUES) <= 0.51 * steps + 5e-4 * np.abs(VALUES)).all()


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1.0, 1e12])
def test_eight_bits_are_as_good_at_any_magnitude(factor: float) -> None:
    values = (VALUES * factor).astype(np.float32)

    decoded = _round_trip(values, 8)

    assert decoded == pytest.approx(values.tolist(), rel=0.3, abs=1e-8 * factor)


def test_one_bit_is_the_sign() -> None:
    assert _round_trip(np.array([0.2, -5.0, 1e-30], np.float32), 1) == [1.0, -1.0, 1.0]


def test_float32_comes_back_exactly() -> None:
    assert _round_trip(VALUES, 32) == VALUES.tolist()


def test_zeros_and_nothing_are_fine() -> None:
    assert _round_trip(np.zeros(2, np.float32), 8) == [0.0, 0.0]
    assert _round_trip(np.zeros(0, np.float32), 8) == []


def test_no_scale_however_large_decodes_to_more_than_a_sum_can_bear() -> None:
    values = np.array([3e38, -3e38], np.float32)

    for value_bits in (8, 32):
        assert np.abs(_round_trip(values, value_bits)).max() <= VALUE_ABS_MAX


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, -0.0])
def test_a_scale_that_is_not_finite_or_negative_is_refused(scale: float) -> None:
    encoded = np.array([1.0, scale], "<f2").tobytes() + b"\1" * 5

    with pytest.raises(BadPayload, match="scale"):
        decode_values(encoded, COUNTS, 8, 0)


def test_a_step_of_minus_128_is_refused() -> None:
    encoded = np.array([1.0, 1.0], "<f2").tobytes() + b"\x80" * 5

    with pytest.raises(BadPayload, match="-128"):
        decode_values(encoded, COUNTS, 8, 0)


def test_an_exponent_out_of_bounds_or_without_scales_is_refused() -> None:
    with pytest.raises(BadPayload, match="exponent"):
        decode_values(bytes(9), COUNTS, 8, EXPONENT_MAX + 1)
    with pytest.raises(BadPayload, match="exponent"):
        decode_values(bytes(20), COUNTS, 32, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e25])
def test_a_float_that_is_not_finite_or_too_large_is_refused(value: float) -> None:
    encoded = np.array([1.0, value], "<f4").tobytes()

    with pytest.raises(BadPayload, match="NaN"):
        decode_values(encoded, COUNTS[:1], 32, 0)
