"""How loss differences travel."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gossamer.algorithms.errors import BadPayload
from gossamer.algorithms.forward import decode_scalars, encode_scalars, scalars_bytes
from gossamer.algorithms.forward.scalars import VALUE_KINDS

Differences = arrays(
    np.float32, st.integers(1, 70), elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
)


@pytest.mark.parametrize(("value", "bound"), [("fp32", 4 * 500), ("int8", 500), ("sign", 500 / 8)])
def test_the_uplink_depends_on_k_alone(value: str, bound: float) -> None:
    payload = encode_scalars(np.linspace(-1, 1, 500).astype(np.float32), value)

    assert len(payload) == scalars_bytes(500, value) <= bound + 256


@given(Differences)
def test_fp32_loses_nothing(differences: np.ndarray) -> None:
    assert (
        decode_scalars(encode_scalars(differences, "fp32"), len(differences), "fp32").tolist() == differences.tolist()
    )


@given(Differences)
def test_int8_is_off_by_at_most_half_a_step(differences: np.ndarray) -> None:
    decoded = decode_scalars(encode_scalars(differences, "int8"), len(differences), "int8")

    step = np.abs(differences).max() / 127
    assert np.all(np.abs(decoded - differences) <= step * 0.51 + 1e-37)


def test_signs_come_back_with_the_mean_size() -> None:
    decoded = decode_scalars(encode_scalars(np.array([1, -2, 3, -6], np.float32), "sign"), 4, "sign")

    assert decoded.tolist() == [3, -3, 3, -3]


@pytest.mark.parametrize("value", VALUE_KINDS)
def test_zeros_come_back_as_zeros(value: str) -> None:
    decoded = decode_scalars(encode_scalars(np.zeros(9, np.float32), value), 9, value)

    assert np.abs(decoded).max() == 0


@pytest.mark.parametrize("value", VALUE_KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e31])
def test_an_overflown_loss_is_not_sent(value: str, bad: float) -> None:
    with pytest.raises(BadPayload):
        encode_scalars(np.array([0, bad], np.float32), value)


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"\0" * 11, "fp32"),
        (b"\0" * 13, "fp32"),
        (struct.pack("<3f", 0, float("nan"), 0), "fp32"),
        (struct.pack("<3f", 0, float("inf"), 0), "fp32"),
        (struct.pack("<3f", 0, 1e31, 0), "fp32"),
        (struct.pack("<f3b", float("nan"), 1, 1, 1), "int8"),
        (struct.pack("<f3b", -1.0, 1, 1, 1), "int8"),
        (struct.pack("<f3b", 1.0, 1, 1, 1) + b"\0", "int8"),
        (struct.pack("<fB", float("inf"), 1), "sign"),
        (struct.pack("<fB", 1.0, 0b1000), "sign"),
    ],
)
def test_payloads_that_no_device_could_have_made_are_refused(payload: bytes, value: str) -> None:
    with pytest.raises(BadPayload):
        decode_scalars(payload, 3, value)
