"""Two bits a value."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.algorithms import BadPayload
from gossamer.algorithms.four_levels import bytes_of_four_levels, decode_four_levels, encode_four_levels


def test_each_value_becomes_the_mean_of_its_bin() -> None:
    # Mean 0, standard deviation 5; bins meet at -7.5, 0 and 7.5.
    values = np.array([-8, -1, -3, 3, 1, 8], np.float32)
    values /= np.float32(values.std() / 5)

    decoded = decode_four_levels(encode_four_levels(values, np.array([6])), np.array([6]), abs_max=1e9)

    expected = [values[0], values[1:3].mean(), values[1:3].mean(), values[3:5].mean(), values[3:5].mean(), values[5]]
    assert decoded == pytest.approx(expected, rel=1e-6)


def test_groups_have_levels_of_their_own_and_may_be_empty_or_constant() -> None:
    counts = np.array([3, 0, 2, 1])
    values = np.array([7, 7, 7, 1e-6, -1e-6, 0.5], np.float32)

    encoded = encode_four_levels(values, counts)

    assert len(encoded) == bytes_of_four_levels(6, 4) == 4 * 16 + 2
    assert decode_four_levels(encoded, counts, abs_max=1e9) == pytest.approx(values)


def test_the_sum_of_a_group_is_kept() -> None:
    values = np.random.Generator(np.random.Philox(key=1)).standard_normal(1000).astype(np.float32)
    counts = np.array([1000])

    decoded = decode_four_levels(encode_four_levels(values, counts), counts, abs_max=1e9)

    assert float(decoded.sum()) == pytest.approx(float(values.sum()), abs=1e-3)
    # A standard normal's variance within [0, 1.5] is 1 - 1.5 f(1.5) / .4332 - (f(0) - f(1.5))^2 / .4332^2 = .165.
    assert float(((decoded - values) ** 2).mean()) == pytest.approx(0.165, abs=0.02)


@pytest.mark.parametrize("level", [np.nan, np.inf, 1e10])
def test_a_level_that_nobody_can_have_sent_is_refused(level: float) -> None:
    encoded = np.array([level, 0, 0, 0], "<f4").tobytes() + b"\0"

    with pytest.raises(BadPayload, match="level"):
        decode_four_levels(encoded, np.array([4]), abs_max=1e9)


def test_padding_bits_are_refused() -> None:
    encoded = encode_four_levels(np.ones(3, np.float32), np.array([3]))

    with pytest.raises(BadPayload, match="padding"):
        decode_four_levels(encoded[:-1] + b"\xc0", np.array([3]), abs_max=1e9)
