"""Codecs by name: one contract for all."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.peer.codecs import CODECS
from gossamer.protocol.errors import BadTensor

ERRORS = {"fp32": 0.0, "fp16": 2**-11, "bf16": 2**-8, "int8": 1 / 254, "dynamic8": 0.45 / 64}
"""At most, relative to the largest value."""


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("n", [0, 1, 255, 257, 5000])
def test_vectors_come_back_within_the_stated_error_and_lengths_are_exact(name: str, n: int) -> None:
    values = np.random.Generator(np.random.Philox(key=n)).standard_normal(n, dtype=np.float32)

    payload = CODECS[name].encode(values)
    decoded = CODECS[name].decode(payload, n)

    assert len(payload) == CODECS[name].encoded_bytes(n)
    assert decoded.dtype == np.float32
    assert np.abs(decoded - values).max(initial=0) <= ERRORS[name] * np.abs(values).max(initial=0) * (1 + 1e-5)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(BadTensor):
        CODECS[name].encode(np.array([1.0, value], np.float32))


@pytest.mark.parametrize("name", CODECS)
def test_a_wrong_length_is_refused(name: str) -> None:
    payload = CODECS[name].encode(np.ones(9, np.float32))

    for wrong in (payload[:-1], payload + b"\0", b""):
        with pytest.raises(BadTensor):
            CODECS[name].decode(wrong, 9)


def test_a_hostile_scale_that_makes_infinities_is_refused() -> None:
    payload = np.float32(3e38).tobytes() + b"\x7f"

    with pytest.raises(BadTensor):
        CODECS["int8"].decode(payload, 1)
