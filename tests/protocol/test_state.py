import hashlib
import math
import struct
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gossamer.protocol.errors import BadTensor
from gossamer.protocol.state import Array, Spec, decode_state, encode_state, state_bytes, state_digest

DTYPES = st.sampled_from(
    ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "bool"]
)
STATES = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20))),
    max_size=5,
)


def spec(arrays: Mapping[str, Array]) -> dict[str, Spec]:
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def small() -> dict[str, Array]:
    return {"step": np.array(7, np.int64), "w": np.arange(6, dtype=np.float32).reshape(2, 3)}


@given(STATES)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_state_comes_back_as_it_was(arrays: dict[str, Array]) -> None:
    data = encode_state(arrays)

    back = decode_state(data, spec(arrays), allow_nonfinite=True)

    assert len(data) == state_bytes(spec(arrays))
    assert state_digest(arrays) == hashlib.sha256(data).digest()
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, strict=True)
        assert back[name].flags.writeable


def test_equal_states_are_equal_bytes_however_they_lie_in_memory() -> None:
    arrays = small()
    shuffled: dict[str, Array] = {
        "w": np.asfortranarray(arrays["w"]).astype(">f4"),
        "step": arrays["step"],
    }

    assert encode_state(shuffled) == encode_state(arrays)


def test_the_layout_is_the_documented_one() -> None:
    data = encode_state({"w": np.array([1.0, 2.0], np.float32)})

    head = b"gossst1\n" + struct.pack("<I", 1) + struct.pack("<H1sBBQ", 1, b"w", 1, 1, 2)[:5] + struct.pack("<Q", 2)
    assert data == head.ljust(64, b"\0") + struct.pack("<2f", 1.0, 2.0).ljust(64, b"\0")


def test_another_value_name_dtype_or_shape_is_other_bytes() -> None:
    w = np.zeros((2, 3), np.float32)
    states: list[dict[str, Array]] = [
        {"w": w}, {"v": w}, {"w": w.reshape(3, 2)}, {"w": w.view(np.int32)}, {"w": w + 1}, {"w": -w}, {}
    ]  # fmt: skip

    encoded = [encode_state(state) for state in states]

    assert len(set(encoded)) == len(encoded)


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"w": (np.float32, (2, 3))}, "expected 'w' as float32 (2, 3)"),
        ({"step": (np.int64, ()), "w": (np.float32, (3, 2))}, "expected 'w' as float32 (3, 2)"),
        ({"step": (np.int32, ()), "w": (np.float32, (2, 3))}, "expected 'step' as int32 ()"),
        ({"step": (np.int64, ()), "v": (np.float32, (2, 3))}, "expected 'v' as float32 (2, 3)"),
        ({"step": (np.int64, ())}, "it holds 2 tensors, expected 1"),
        ({}, "it holds 2 tensors, expected 0"),
    ],
)
def test_a_state_of_another_model_is_refused_with_the_difference(expect: dict[str, Spec], message: str) -> None:
    with pytest.raises(BadTensor) as caught:
        decode_state(encode_state(small()), expect)

    assert message in str(caught.value)


def test_a_state_cut_or_extended_is_refused() -> None:
    data = encode_state(small())

    for wrong in [*(data[:length] for length in range(len(data))), data + b"\0"]:
        with pytest.raises(BadTensor):
            decode_state(wrong, spec(small()))


def test_a_flipped_bit_is_refused_or_changes_a_value_and_with_it_the_bytes() -> None:
    data = encode_state(small())

    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            arrays = decode_state(bytes(flipped), spec(small()))
        except BadTensor:
            continue
        assert encode_state(arrays) == flipped


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_state_with_nan_or_infinity_is_refused_unless_allowed(bad: float) -> None:
    arrays = {"w": np.array([1.0, bad], np.float32)}
    data = encode_state(arrays)

    with pytest.raises(BadTensor, match="tensor 'w' of a state holds NaN"):
        decode_state(data, spec(arrays))

    np.testing.assert_array_equal(decode_state(data, spec(arrays), allow_nonfinite=True)["w"], arrays["w"])


def test_booleans_are_zero_or_one() -> None:
    data = bytearray(encode_state({"b": np.array([True])}))
    data[64] = 2

    with pytest.raises(BadTensor, match="booleans other than 0 and 1"):
        decode_state(bytes(data), {"b": (bool, (1,))})


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None])])
def test_a_dtype_without_a_place_is_refused(array: Array) -> None:
    with pytest.raises(BadTensor, match="has no place in a state"):
        encode_state({"x": array})


def test_a_name_without_a_place_is_refused() -> None:
    for name in ("", "n" * 65_536):
        with pytest.raises(BadTensor, match="has no place in a state"):
            encode_state({name: np.zeros(1, np.float32)})
