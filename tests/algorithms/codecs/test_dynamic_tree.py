"""The dynamic tree: its codebook, its error bound, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.algorithms import BadPayload
from gossamer.algorithms.codecs import DynamicTree
from gossamer.algorithms.codecs.dynamic_tree import codebook, magnitudes
from gossamer.algorithms.errors import BadVector
from gossamer.algorithms.method import F32

TREE = DynamicTree(block=0)


def _log_uniform(n: int) -> F32:
    generator = np.random.Generator(np.random.Philox(key=1))
    signs = generator.choice([-1.0, 1.0], n)
    values: F32 = (signs * 10 ** generator.uniform(-9, 0, n)).astype(np.float32)
    values[0] = 1.0
    return values


def _bound(x: F32) -> F32:
    """Of the error, for magnitudes relative to the block's largest."""
    decade = np.clip(np.floor(-np.log10(np.maximum(x, 1e-30))), 0, 7)
    bound: F32 = np.where(decade < 7, 0.45 / 64 * 0.2**decade, 4.5e-7)
    # At a decade's edge the wider of both applies, and float32 rounds.
    return np.maximum(bound, np.where(decade < 6, 0.45 / 64 * 0.2 ** (decade + 1), 0)) * (1 + 1e-5) + 1e-7 * x


def test_the_codebook_has_256_different_values_that_can_be_derived_by_hand() -> None:
    book = codebook()

    assert len(set(book.tolist())) == 256
    assert (book[0], book[128]) == (0.0, 1.0)
    # Six zeros leave one interval, five leave two.
    assert magnitudes()[1:4].tolist() == pytest.approx([0.55e-6, 0.325e-5, 0.775e-5])
    # No zero leaves 64 intervals of .9 / 64.
    assert magnitudes()[127] == pytest.approx(1 - 0.45 / 64)


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_errors_keep_to_the_bound_at_any_magnitude(factor: float) -> None:
    values = _log_uniform(50_000)
    scaled = (values * factor).astype(np.float32)

    decoded = TREE.decode(TREE.encode(scaled), len(scaled)) / np.float32(factor)

    assert (np.abs(decoded - values) <= _bound(np.abs(values))).all()


def test_the_nearest_code_is_taken() -> None:
    values = _log_uniform(5000)
    book = codebook().astype(np.float64)

    decoded = TREE.decode(TREE.encode(values), len(values))

    nearest = np.abs(values.astype(np.float64).reshape(-1, 1) - book).min(axis=1)
    assert np.allclose(np.abs(decoded.astype(np.float64) - values), nearest, rtol=1e-5, atol=1e-12)


def test_every_code_comes_back_as_it_is() -> None:
    values = codebook()

    assert TREE.encode(values)[4:] == bytes(range(256))
    assert np.array_equal(TREE.decode(TREE.encode(values), 256), values)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 17])
def test_lengths_are_exact_for_every_remainder(n: int) -> None:
    codec = DynamicTree(block=8)
    values = _log_uniform(20)[:n]

    payload = codec.encode(values)

    assert len(payload) == codec.encoded_bytes(n) == n + 4 * ((n + 7) // 8)
    assert codec.decode(payload, n).shape == (n,)
    for wrong in [*(payload[:length] for length in range(len(payload))), payload + b"\0"]:
        with pytest.raises(BadPayload):
            codec.decode(wrong, n)


def test_a_large_value_spoils_its_own_block_only() -> None:
    values = np.full(16, 1e-9, np.float32)
    values[0] = 1.0

    decoded = DynamicTree(block=8).decode(DynamicTree(block=8).encode(values), 16)

    assert decoded[1:8].tolist() == [0.0] * 7
    assert decoded[8:].tolist() == pytest.approx([1e-9] * 8)


def test_zeros_come_back_as_zeros() -> None:
    assert TREE.decode(TREE.encode(np.zeros(9, np.float32)), 9).tolist() == [0.0] * 9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 8])
def test_a_vector_that_is_not_finite_is_refused(value: float, place: int) -> None:
    values = np.ones(9, np.float32)
    values[place] = value

    with pytest.raises(BadVector):
        DynamicTree(block=8).encode(values)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, -0.0])
def test_a_scale_that_is_not_finite_or_negative_is_refused(scale: float) -> None:
    with pytest.raises(BadPayload, match="scale"):
        TREE.decode(np.float32(scale).tobytes() + b"\0", 1)


def test_values_in_a_block_of_scale_zero_are_refused() -> None:
    with pytest.raises(BadPayload, match="scale is 0"):
        TREE.decode(bytes(4) + b"\1", 1)
