import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gossamer.protocol.errors import BadTensor, ChecksumMismatch, InvalidMessage, MessageTooLarge
from gossamer.protocol.tensors import (
    BLOCK,
    F32,
    MAX_HEADER_BYTES,
    decode_tensor,
    encode_tensor,
    parse_header,
    payload_bytes,
)
from gossamer.protocol.tensors_pb2 import (
    BF16,
    FP16,
    FP32,
    INT8_FP16,
    INT8_FP32,
    INT32,
    INT64,
    TENSOR_CODEC_UNSPECIFIED,
    UINT8,
    TensorCodec,
    TensorHeader,
)

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)
ordinary = settings(max_examples=60, deadline=None, derandomize=True)


def floats(limit: float) -> st.SearchStrategy[F32]:
    return hnp.arrays(np.float32, SHAPES, elements=st.floats(-limit, limit, width=32))


def sent(array: np.ndarray, codec: TensorCodec) -> np.ndarray:
    header, payload = encode_tensor(array, codec, name="w")
    return decode_tensor(parse_header(header.SerializeToString()), payload)


def with_hash(header: TensorHeader, payload: bytes) -> TensorHeader:
    header.sha256 = hashlib.sha256(payload).digest()
    return header


@given(floats(2.0**127))
@ordinary
def test_fp32_is_exact(array: F32) -> None:
    np.testing.assert_array_equal(sent(array, FP32), array, strict=True)


@given(floats(65_504.0))
@ordinary
def test_fp16_is_the_nearest_half(array: F32) -> None:
    np.testing.assert_array_equal(sent(array, FP16), array.astype(np.float16).astype(np.float32), strict=True)


@given(floats(2.0**127))
@ordinary
def test_bf16_is_off_by_half_a_unit_in_the_last_place(array: F32) -> None:
    got = sent(array, BF16)

    smallest = 2.0**-133  # the least subnormal bf16
    assert (np.abs(got.astype(float) - array) <= np.maximum(np.abs(array.astype(float)) * 2.0**-8, smallest)).all()
    assert not (got.view(np.uint32) & 0xFFFF).any()


def test_bf16_rounds_ties_to_even() -> None:
    array = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001], np.uint32).view(np.float32)

    assert [hex(bits) for bits in sent(array, BF16).view(np.uint32)] == [
        "0x3f800000",
        "0x3f800000",
        "0x3f820000",
        "0x3f810000",
    ]


@pytest.mark.parametrize(
    ("codec", "slack", "tiny"), [(INT8_FP32, 2.0**-20, 2.0**-140), (INT8_FP16, 2.0**-10, 2.0**-24)]
)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 3 * BLOCK), exponent=st.integers(-30, 20))
@ordinary
def test_eight_bits_are_off_by_half_a_scale(
    codec: TensorCodec, slack: float, tiny: float, seed: int, n: int, exponent: int
) -> None:
    array = (np.random.default_rng(seed).standard_normal(n) * 2.0**exponent).astype(np.float32)

    got = sent(array, codec)

    for start in range(0, n, BLOCK):
        block = array[start : start + BLOCK].astype(float)
        scale = np.abs(block).max() / 127 * (1 + slack) + tiny
        assert np.abs(got[start : start + BLOCK] - block).max() <= scale / 2 * (1 + 2.0**-16)


def test_eight_bits_by_hand() -> None:
    array = np.array([127.0, -127.0, 1.4, -0.6, 0.4, 0.0], np.float32)

    header, payload = encode_tensor(array, INT8_FP32)

    assert payload == np.array([1.0], "<f4").tobytes() + bytes([127, 129, 1, 255, 0, 0])
    np.testing.assert_array_equal(decode_tensor(header, payload), np.array([127, -127, 1, -1, 0, 0], np.float32))


@pytest.mark.parametrize("codec", [INT8_FP16, INT8_FP32])
def test_blocks_do_not_disturb_each_other(codec: TensorCodec) -> None:
    array = np.concatenate([np.zeros(BLOCK), np.full(BLOCK, 1e-3), np.full(3, 1e3)]).astype(np.float32)

    got = sent(array, codec)

    np.testing.assert_allclose(got, array, rtol=4e-3, atol=0)  # half of 1/127
    assert not np.signbit(got).any()


@pytest.mark.parametrize(("codec", "dtype"), [(INT64, np.int64), (INT32, np.int32), (UINT8, np.uint8)])
def test_integers_are_exact(codec: TensorCodec, dtype: type[np.integer]) -> None:
    limits = np.iinfo(dtype)
    array = np.array([[limits.min, 0], [1, limits.max]], dtype)

    np.testing.assert_array_equal(sent(array, codec), array, strict=True)


def test_a_view_is_sent_in_the_order_of_its_own_axes() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::-1]

    np.testing.assert_array_equal(sent(array, FP32), array)


@pytest.mark.parametrize("codec", [FP32, FP16, BF16, INT8_FP16, INT8_FP32, INT64, INT32, UINT8])
def test_what_arrives_may_be_written_to(codec: TensorCodec) -> None:
    dtype = {INT64: np.int64, INT32: np.int32, UINT8: np.uint8}.get(codec, np.float32)

    assert sent(np.ones(5, dtype), codec).flags.writeable


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("codec", [FP32, FP16, BF16, INT8_FP16, INT8_FP32])
def test_nan_and_infinity_are_not_sent(codec: TensorCodec, bad: float) -> None:
    with pytest.raises(BadTensor, match="tensor 'w' holds NaN, infinities or values too large"):
        encode_tensor(np.array([0.0, bad], np.float32), codec, name="w")


@pytest.mark.parametrize(("codec", "value"), [(FP16, 65_520.0), (BF16, 3.4e38), (INT8_FP16, 1e8)])
def test_values_too_large_for_their_codec_are_not_sent(codec: TensorCodec, value: float) -> None:
    with pytest.raises(BadTensor, match="clip it or use FP32"):
        encode_tensor(np.array([value], np.float32), codec)


def test_a_double_too_large_for_a_float_is_not_sent() -> None:
    with pytest.raises(BadTensor):
        encode_tensor(np.array([1e300]), FP32)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("codec", "dtype"), [(FP32, "<f4"), (FP16, "<f2")])
def test_nan_and_infinity_are_not_taken(codec: TensorCodec, dtype: str, bad: float) -> None:
    payload = np.array([1.0, bad], dtype).tobytes()
    header = with_hash(TensorHeader(name="w", codec=codec, shape=[2], payload_bytes=len(payload)), payload)

    with pytest.raises(BadTensor, match="tensor 'w' holds NaN"):
        decode_tensor(header, payload)

    assert not np.isfinite(decode_tensor(header, payload, allow_nonfinite=True)).all()


@pytest.mark.parametrize("scale", [math.nan, math.inf, 3e38])
def test_a_hostile_scale_is_not_taken(scale: float) -> None:
    payload = np.array([scale], "<f4").tobytes() + bytes([100])
    header = with_hash(TensorHeader(codec=INT8_FP32, shape=[1], payload_bytes=5), payload)

    with pytest.raises(BadTensor, match="NaN or infinities"):
        decode_tensor(header, payload)


@pytest.mark.parametrize("codec", [FP32, FP16, BF16])
def test_nan_and_infinity_pass_where_they_are_allowed(codec: TensorCodec) -> None:
    array = np.array([math.nan, math.inf, -math.inf, 1.0], np.float32)
    array[:1] = np.array([0xFFFFFFFF], np.uint32).view(np.float32)  # a NaN that rounding would carry over

    header, payload = encode_tensor(array, codec, allow_nonfinite=True)

    np.testing.assert_array_equal(decode_tensor(header, payload, allow_nonfinite=True), array)


@pytest.mark.parametrize(
    "change",
    [
        {"codec": TENSOR_CODEC_UNSPECIFIED},
        {"codec": 99},
        {"codec": FP16},
        {"shape": [3]},
        {"shape": [2, 2]},
        {"shape": []},
        {"shape": [1] * 9},
        {"shape": [2**63, 2**63]},
        {"shape": [2**63, 0]},
        {"shape": [2**20, 2**20, 0], "payload_bytes": 0},
        {"shape": [2**32, 2**32]},
        {"payload_bytes": 9},
        {"payload_bytes": 2**63},
        {"sha256": b""},
        {"sha256": bytes(33)},
        {"name": "n" * 513},
    ],
)
def test_a_header_that_no_array_has_is_refused(change: dict[str, object]) -> None:
    fields: dict[str, object] = {"name": "w", "codec": FP32, "shape": [2], "payload_bytes": 8, "sha256": bytes(32)}
    header = TensorHeader(**(fields | change))  # type: ignore[arg-type]

    with pytest.raises(BadTensor):
        decode_tensor(header, bytes(8))


def test_an_oversized_header_is_refused_unread() -> None:
    with pytest.raises(MessageTooLarge):
        parse_header(bytes(MAX_HEADER_BYTES + 1))


@given(st.binary(max_size=64))
@ordinary
def test_any_bytes_are_a_header_or_a_typed_error(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse_header(data)  # none of these has a hash of 32 bytes and a codec


def test_a_payload_with_any_flipped_bit_is_refused() -> None:
    header, payload = encode_tensor(np.arange(5, dtype=np.float32), FP32, name="w")

    for bit in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChecksumMismatch, match="tensor 'w'"):
            decode_tensor(header, bytes(flipped))


def test_a_payload_of_another_length_is_refused() -> None:
    header, payload = encode_tensor(np.arange(5, dtype=np.float32), FP32, name="w")

    for data in (payload[:-1], payload + b"\0", b""):
        with pytest.raises(BadTensor, match="bytes came of 20"):
            decode_tensor(header, data)


@pytest.mark.parametrize(
    ("array", "codec"),
    [
        (np.ones(2, np.int64), FP32),
        (np.ones(2, np.float32), INT64),
        (np.ones(2, np.int32), INT64),
        (np.ones(2, bool), UINT8),
        (np.ones(2, np.float32), TENSOR_CODEC_UNSPECIFIED),
        (np.ones((1,) * 9, np.float32), FP32),
        (np.array(["a"]), FP32),
    ],
)
def test_an_array_that_does_not_fit_its_codec_is_not_sent(array: np.ndarray, codec: TensorCodec) -> None:
    with pytest.raises(BadTensor):
        encode_tensor(array, codec)


def test_lengths_are_known_beforehand() -> None:
    assert [payload_bytes(codec, 257) for codec in (FP32, FP16, BF16, INT8_FP16, INT8_FP32, INT64, INT32, UINT8)] == [
        1028, 514, 514, 261, 265, 2056, 1028, 257,
    ]  # fmt: skip
