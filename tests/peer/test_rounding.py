"""Copies of the state in fewer bits: everybody ends with the same bits, and what they lose is bounded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.peer.rounding import Rounding, rounding_of
from gossamer.protocol.errors import BadTensor
from gossamer.protocol.state import Array, Spec, state_bytes

SPECS: dict[str, Spec] = {
    "model/weight": (np.float32, (64, 33)),
    "model/bias": (np.float32, (7,)),
    "shared/second_moment": (np.float32, (2112,)),
    "progress": (np.int64, (2,)),
}
CODECS = ("fp16", "bf16", "int8", "dynamic8")


def arrays() -> dict[str, Array]:
    draw = np.random.default_rng(3)
    return {
        "model/weight": draw.standard_normal((64, 33)).astype(np.float32),
        "model/bias": draw.standard_normal(7).astype(np.float32),
        "shared/second_moment": np.square(draw.standard_normal(2112) * 10.0 ** draw.uniform(-6, -3, 2112), dtype="f4"),
        "progress": np.array([12, 345]),
    }


def floats(state: dict[str, Array], name: str) -> npt.NDArray[np.float32]:
    return np.asarray(state[name], np.float32)


@pytest.mark.parametrize("codec", CODECS)
def test_who_rounds_and_who_downloads_hold_the_same_bits(codec: str) -> None:
    rounding = Rounding(codec=codec, specs=SPECS)
    data = rounding.encode(arrays())

    first, second = rounding.decode(data), rounding.decode(bytes(bytearray(data)))

    assert len(data) == rounding.encoded_bytes()
    for name, (dtype, shape) in SPECS.items():
        assert first[name].dtype == dtype
        assert first[name].shape == shape
        assert first[name].tobytes() == second[name].tobytes()


@pytest.mark.parametrize(
    ("codec", "share", "error"), [("bf16", 2, 0.004), ("int8", 3.8, 0.02), ("dynamic8", 3.8, 0.05)]
)
def test_a_copy_is_a_half_or_a_quarter_and_its_error_bounded(codec: str, share: float, error: float) -> None:
    rounding, state = Rounding(codec=codec, specs=SPECS), arrays()

    decoded = rounding.decode(rounding.encode(state))

    exact = state_bytes(SPECS)
    assert rounding.encoded_bytes() - 320 < exact / share  # 320: the head
    before, after = floats(state, "model/weight"), floats(decoded, "model/weight")
    assert np.abs(after - before).max() < error * np.abs(before).max()


@pytest.mark.parametrize("codec", CODECS)
def test_counters_and_short_tensors_stay_exact(codec: str) -> None:
    state = arrays()
    rounding = Rounding(codec=codec, specs=SPECS)

    decoded = rounding.decode(rounding.encode(state))

    for name in ("model/bias", "progress"):
        assert decoded[name].tobytes() == state[name].tobytes()


def test_small_second_moments_keep_their_size_in_16_bits() -> None:
    """In fp16 they would become 0, and the next step of Adam huge."""
    state = arrays()
    rounding = Rounding(codec="fp16", specs=SPECS)

    decoded = rounding.decode(rounding.encode(state))

    before, after = floats(state, "shared/second_moment"), floats(decoded, "shared/second_moment")
    np.testing.assert_allclose(after, before, rtol=0.004)


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_that_are_no_such_copy_are_refused(codec: str) -> None:
    rounding = Rounding(codec=codec, specs=SPECS)
    data = rounding.encode(arrays())

    for broken in (data[:-1], data + b"\0", b"", data.replace(b"model/weight", b"model/height")):
        with pytest.raises(BadTensor):
            rounding.decode(broken)


def test_exact_copies_need_no_rounding() -> None:
    assert rounding_of("fp32", SPECS) is None
