"""DeMo's payload format."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.algorithms import BadPayload
from gossamer.algorithms.method import F32
from gossamer.algorithms.payload import HEADER, PayloadFormat, tile_quota
from gossamer.algorithms.tiles import Shape, Tiling

SHAPES: list[Shape] = [(130, 67), (7,), (), (0, 5), (64, 64), (6, 3, 5, 5), (97, 1), (3, 200)]
BITS = [1, 8, 32]


def _format(shapes: Sequence[Shape], value_bits: int = 8, k: int = 32, size: int = 64) -> PayloadFormat:
    return PayloadFormat(Tiling(shapes, size), size=size, k=k, value_bits=value_bits)


def _tiled(shapes: Sequence[Shape], seed: int = 0) -> F32:
    dim = sum(math.prod(shape) for shape in shapes)
    return np.random.Generator(np.random.Philox(key=seed)).standard_normal(dim, dtype=np.float32)


@pytest.mark.parametrize(("area", "quota"), [(4096, 32), (4095, 32), (2048, 16), (129, 2), (128, 1), (64, 1), (1, 1)])
def test_a_tile_sends_in_proportion_to_its_area_and_at_least_one(area: int, quota: int) -> None:
    assert tile_quota(area, 64, 32) == quota


def test_the_largest_coefficients_arrive_where_they_were() -> None:
    tiled = np.zeros(64 * 64, np.float32)
    tiled[[5, 4095, 100]] = [1.0, -2.0, 0.5]

    sent = _format([(64, 64)], value_bits=32, k=2).decode(_format([(64, 64)], value_bits=32, k=2).encode(tiled))

    assert (sent.positions.tolist(), sent.values.tolist()) == ([5, 4095], [1.0, -2.0])


@pytest.mark.parametrize("value_bits", BITS)
def test_what_is_decoded_is_close_to_what_stood_there(value_bits: int) -> None:
    form, tiled = _format(SHAPES, value_bits), _tiled(SHAPES)

    sent = form.decode(form.encode(tiled))

    kept = tiled[sent.positions]
    assert len(set(sent.positions.tolist())) == len(sent.positions) > 0
    if value_bits == 1:
        assert np.array_equal(sent.values, np.sign(kept))
    else:
        assert np.abs(sent.values - kept).max() <= (0.0 if value_bits == 32 else 4.5 / 127)


@pytest.mark.parametrize("value_bits", BITS)
def test_the_length_is_known_beforehand(value_bits: int) -> None:
    form = _format(SHAPES, value_bits)

    assert len(form.encode(_tiled(SHAPES))) == form.bytes_max()
    assert len(form.encode(np.zeros_like(_tiled(SHAPES)))) <= form.bytes_max()


@given(
    shape=st.lists(st.integers(0, 130), max_size=2).map(tuple), value_bits=st.sampled_from(BITS), k=st.integers(1, 4096)
)
def test_no_tensor_takes_more_than_its_dense_form(shape: Shape, value_bits: int, k: int) -> None:
    form, area = _format([shape], value_bits, k), math.prod(shape)
    n_tiles = Tiling([shape], 64).n_tiles

    body = form.bytes_max() - HEADER.size

    # Dense: a scale for each tile and a byte for each value; or two bits (zero or not, sign); or a float.
    dense = {1: 2 * math.ceil(area / 8) + 2 * n_tiles, 8: 2 * n_tiles + area, 32: 4 * area}[value_bits]
    assert body <= dense


def test_one_million_parameters_in_whole_tiles_take_a_fiftieth_of_a_byte_each() -> None:
    shapes: list[Shape] = [(1024, 1024)]

    # For each tile a count, 32 indices of 12 bits, a scale and 32 bytes; or a count, indices and 32 bits.
    assert _format(shapes, 8).bytes_max() - HEADER.size == 256 * (2 + 48 + 2 + 32)
    assert _format(shapes, 1).bytes_max() - HEADER.size == 256 * (2 + 48 + 4)


@pytest.mark.parametrize("value_bits", BITS)
def test_zeros_send_nothing(value_bits: int) -> None:
    form = _format(SHAPES, value_bits)

    assert len(form.decode(form.encode(np.zeros_like(_tiled(SHAPES)))).positions) == 0


@pytest.mark.parametrize("value_bits", BITS)
def test_a_model_without_parameters_has_an_empty_payload(value_bits: int) -> None:
    form = _format([(0, 3)], value_bits)

    payload = form.encode(np.empty(0, np.float32))

    assert len(payload) == HEADER.size == form.bytes_max()
    assert len(form.decode(payload).positions) == 0


@pytest.mark.parametrize("value_bits", BITS)
def test_every_truncation_and_extension_is_refused(value_bits: int) -> None:
    form = _format([(3, 5), (64, 64)], value_bits)
    payload = form.encode(_tiled([(3, 5), (64, 64)]))

    for length in range(len(payload)):
        with pytest.raises(BadPayload):
            form.decode(payload[:length])
    with pytest.raises(BadPayload):
        form.decode(payload + b"\0")


@given(data=st.data(), value_bits=st.sampled_from(BITS))
def test_flipped_bits_are_refused_or_decode_within_bounds(data: st.DataObject, value_bits: int) -> None:
    shapes: list[Shape] = [(3, 5), (64, 64)]
    form, tiled = _format(shapes, value_bits), _tiled(shapes)
    payload = bytearray(form.encode(tiled))
    for bit in data.draw(st.lists(st.integers(0, 8 * len(payload) - 1), min_size=1, max_size=3)):
        payload[bit // 8] ^= 1 << bit % 8

    try:
        sent = form.decode(bytes(payload))
    except BadPayload as error:
        with pytest.raises(BadPayload, match=re.escape(str(error))):
            form.check(bytes(payload))
        return

    form.check(bytes(payload))
    assert np.isfinite(sent.values).all()
    assert (np.diff(np.sort(sent.positions)) > 0).all()
    assert sent.positions.min() >= 0
    assert sent.positions.max() < len(tiled)


def _one_tile(counts: int, indices: list[int], area_shape: Shape = (60, 60)) -> tuple[PayloadFormat, bytes]:
    """A hand-made payload for one indexed tile whose quota is 2."""
    form = _format([area_shape], 32, k=2)
    packed = struct.unpack("<I", struct.pack("<I", indices[0] | indices[1] << 12))[0].to_bytes(4, "little")[:3]
    header = HEADER.pack(2, 32, 0, 1, 2, 2)
    return form, header + struct.pack("<H", counts) + packed + struct.pack("<ff", 1.0, 2.0)


def test_a_payload_can_be_written_by_hand() -> None:
    form, payload = _one_tile(2, [3, 3599])

    assert form.decode(payload).positions.tolist() == [3, 3599]


@pytest.mark.parametrize(
    ("counts", "indices", "reason"),
    [
        (2, [3, 3600], "outside its tile"),
        (2, [3, 3], "ascending"),
        (2, [4, 3], "ascending"),
        (3, [3, 4], "more coefficients"),
        (1, [3, 4], "add up to 1"),
    ],
)
def test_indices_and_counts_that_break_a_rule_are_refused(counts: int, indices: list[int], reason: str) -> None:
    form, payload = _one_tile(counts, indices)

    with pytest.raises(BadPayload, match=reason):
        form.decode(payload)


@pytest.mark.parametrize(
    "header",
    [
        (1, 32, 0, 1, 2, 2),
        (2, 8, 0, 1, 2, 2),
        (2, 32, 0, 2, 2, 2),
        (2, 32, 0, 1, 2**32 - 1, 2**32 - 1),
        (2, 32, 0, 1, 2, 1),
        (2, 32, 0, 1, 2, 3),
        (2, 32, 7, 1, 2, 2),
    ],
)
def test_a_header_that_is_not_ours_is_refused(header: tuple[int, ...]) -> None:
    form, payload = _one_tile(2, [3, 4])

    with pytest.raises(BadPayload):
        form.decode(HEADER.pack(*header) + payload[HEADER.size :])
