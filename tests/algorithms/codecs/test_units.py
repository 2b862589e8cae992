"""Codecs by units: error bounds, units that stand for themselves, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.algorithms.codecs import Half, LinearBlocks, TreeBlocks, UnitCodec, UpperHalf
from gossamer.algorithms.errors import BadPayload, BadVector
from gossamer.algorithms.method import F32

CODECS: dict[str, UnitCodec] = {"fp16": Half(), "bf16": UpperHalf(), "int8": LinearBlocks(), "dynamic8": TreeBlocks()}
BLOCK = 256


def _values(n: int = 40 * BLOCK, scale: float = 1.0) -> F32:
    generator = np.random.Generator(np.random.Philox(key=3))
    values: F32 = (scale * generator.standard_normal(n) * 10 ** generator.uniform(-3, 2, n)).astype(np.float32)
    values[:BLOCK] = 0
    return values


def _bound(name: str, values: F32) -> F32:
    magnitudes = np.abs(values)
    peaks: F32 = np.repeat(magnitudes.reshape(-1, BLOCK).max(axis=1), BLOCK)
    bounds: dict[str, F32] = {
        "fp16": np.maximum(magnitudes * np.float32(2.0**-11), np.float32(2.0**-25)),
        "bf16": magnitudes * np.float32(2.0**-8),
        "int8": peaks / np.float32(254),
        "dynamic8": peaks * np.float32(0.45 / 64),
    }
    return bounds[name] * np.float32(1 + 1e-5)


@pytest.mark.parametrize("name", CODECS)
def test_errors_keep_to_the_bound_and_units_have_their_size(name: str) -> None:
    codec, values = CODECS[name], _values()

    units = codec.encode(values)

    assert len(units) == codec.unit_bytes * codec.n_units(len(values))
    assert (np.abs(codec.decode(units) - values) <= _bound(name, values)).all()


@pytest.mark.parametrize("name", CODECS)
def test_each_unit_can_be_decoded_alone(name: str) -> None:
    codec = CODECS[name]
    units = codec.encode(_values())
    whole = codec.decode(units)

    for number in (0, 1, 7, 39):
        alone = codec.decode(units[number * codec.unit_bytes : (number + 1) * codec.unit_bytes])
        assert np.array_equal(alone, whole[number * codec.unit_elements : (number + 1) * codec.unit_elements])


@pytest.mark.parametrize("name", CODECS)
def test_largest_and_least_gradients_survive(name: str) -> None:
    codec = CODECS[name]
    for scale in (2.0**100, 2.0**-126, 2.0**-149):
        values = np.full(BLOCK, scale, np.float32)

        decoded = codec.decode(codec.encode(values))

        expected = np.clip(values, -65504, 65504).astype(np.float16).astype(np.float32) if name == "fp16" else values
        # Where float32 itself, of which bf16 is the upper half and of which scales are, has no 24 bits any more.
        subnormal = {"bf16": 2.0**-134, "int8": 2.0**-126}.get(name, 0.0) if scale < 2.0**-120 else 0.0
        assert np.allclose(decoded, expected, rtol=2.0**-7, atol=subnormal)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_encoded(name: str, bad: float) -> None:
    values = _values()
    values[5000] = bad

    with pytest.raises(BadVector):
        CODECS[name].encode(values)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("fp16", np.array([1, np.nan], "<f2").tobytes()),
        ("fp16", np.array([-np.inf, 1], "<f2").tobytes()),
        ("bf16", b"\x00\x00\x80\xff"),  # minus infinity
        ("bf16", b"\xc0\x7f\x00\x00"),  # NaN
        ("bf16", b"\x00\x73\x00\x00"),  # 2^103
        ("int8", np.array([np.nan], "<f4").tobytes() + bytes(BLOCK)),
        ("int8", np.array([-1], "<f4").tobytes() + bytes(BLOCK)),
        ("int8", np.array([1e30], "<f4").tobytes() + bytes(BLOCK)),
        ("int8", np.array([1], "<f4").tobytes() + b"\x80" + bytes(BLOCK - 1)),
        ("int8", bytes(4) + b"\x01" + bytes(BLOCK - 1)),
        ("dynamic8", np.array([np.inf], "<f4").tobytes() + bytes(BLOCK)),
        ("dynamic8", np.array([1e31], "<f4").tobytes() + bytes(BLOCK)),
        ("dynamic8", bytes(4) + b"\x01" + bytes(BLOCK - 1)),
    ],
)
def test_units_that_no_encoder_writes_are_refused(name: str, unit: bytes) -> None:
    codec = CODECS[name]
    good = codec.encode(np.ones(codec.unit_elements, np.float32))

    with pytest.raises(BadPayload):
        codec.decode(np.concatenate([good, np.frombuffer(unit, np.uint8)]))


def test_halves_round_as_the_standard_says() -> None:
    # 1 + 2^-8 lies between two bfloat16 and goes to the even one, as does 1 + 3 * 2^-8.
    values = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, 70_000], np.float32)

    assert UpperHalf().decode(UpperHalf().encode(values))[:3].tolist() == [1.0, 1 + 4 * 2.0**-8, 1 + 2 * 2.0**-8]
    assert Half().decode(Half().encode(values))[3] == 65504
