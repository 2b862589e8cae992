"""Packing of 12-bit numbers and single bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.algorithms.bits import bytes_of_12_bit, check_12_bit, pack_12_bit, unpack_12_bit
from gossamer.algorithms.single_bits import pack_bits, unpack_bits


def test_two_numbers_take_three_bytes_least_significant_first() -> None:
    assert pack_12_bit(np.array([0xABC, 0x123])) == bytes([0xBC, 0x3A, 0x12])


@given(st.lists(st.integers(0, 4095), max_size=50))
def test_12_bit_numbers_come_back(numbers: list[int]) -> None:
    packed = pack_12_bit(np.array(numbers, np.int64))

    assert len(packed) == bytes_of_12_bit(len(numbers)) == (len(numbers) * 12 + 7) // 8
    assert unpack_12_bit(packed, len(numbers)).tolist() == numbers


@given(st.lists(st.booleans(), max_size=50))
def test_bits_come_back(bits: list[bool]) -> None:
    packed = pack_bits(np.array(bits, np.bool_))

    assert unpack_bits(packed, len(bits)).tolist() == bits


def test_padding_that_is_not_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="padding"):
        check_12_bit(bytes([0, 0x10]), np.array([1]), np.array([4096]))
    with pytest.raises(ValueError, match="padding"):
        unpack_bits(bytes([0x80]), 7)


def test_a_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        check_12_bit(b"\0\0\0", np.array([1]), np.array([4096]))
    with pytest.raises(ValueError, match="cannot hold"):
        unpack_bits(b"\0\0", 8)


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 8), max_size=4), st.integers(0, 9)), max_size=6),
)
def test_groups_of_numbers_ascend_below_their_bounds_or_are_refused(groups: list[tuple[list[int], int]]) -> None:
    packed = pack_12_bit(np.array([number for numbers, _ in groups for number in numbers], np.int64))
    counts = np.array([len(numbers) for numbers, _ in groups], np.int64)
    bounds = np.array([bound for _, bound in groups], np.int64)

    if all(numbers == sorted(set(numbers)) and max(numbers, default=-1) < bound for numbers, bound in groups):
        check_12_bit(packed, counts, bounds)
    else:
        with pytest.raises(ValueError, match=r"outside its tile|not strictly ascending"):
            check_12_bit(packed, counts, bounds)
