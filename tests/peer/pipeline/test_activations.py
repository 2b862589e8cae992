"""Activations on the wire."""

from __future__ import annotations

import pytest
import torch
from blake3 import blake3
from torch import Tensor

from gossamer.peer.pipeline.activations import (
    Codec,
    Compression,
    check_announced,
    decode_activations,
    encode_activations,
    wire_bytes,
)
from gossamer.peer.pipeline.microbatches import Boundary
from gossamer.protocol.errors import BadTensor, ChecksumMismatch
from gossamer.protocol.tensors import decode_tensor, encode_tensor
from gossamer.protocol.tensors_pb2 import TensorHeader

FLOATS = Boundary(shape=(16, 32), dtype=torch.float32)
TOKENS = Boundary(shape=(16,), dtype=torch.int64)


@pytest.mark.parametrize(("compression", "bytes_each"), [("int8", 1 + 4 / 256), ("fp16", 2), ("none", 4)])
def test_lengths_are_as_stated(compression: str, bytes_each: float) -> None:
    chosen = Compression(compression)

    header, payload = _encoded(_floats(), chosen)

    assert len(payload) == wire_bytes(FLOATS, chosen, 3) == 3 * 16 * 32 * bytes_each
    assert check_announced(header, FLOATS, n_samples_max=3) == len(payload)


def test_without_compression_every_bit_arrives() -> None:
    x = _floats()

    assert torch.equal(_through(x, Compression.NONE), x)


def test_eight_bits_err_by_half_a_step_of_their_block_at_most() -> None:
    x = _floats()

    error = (_through(x, Compression.INT8) - x).abs().reshape(-1, 256)

    assert (error.max(1).values <= x.abs().reshape(-1, 256).max(1).values / 254 * 1.0001).all()
    assert error.max() > 0


@pytest.mark.parametrize("compression", list(Compression))
def test_tokens_travel_as_they_are(compression: Compression) -> None:
    tokens = torch.arange(48).reshape(3, 16) * 10**12

    header, payload = _encoded(tokens, compression)

    assert torch.equal(decode_activations(header, payload, TOKENS, n_samples_max=3), tokens)
    assert len(payload) == wire_bytes(TOKENS, compression, 3)


def test_other_kinds_of_tensors_are_refused_before_their_bytes_are_awaited() -> None:
    floats, _ = _encoded(_floats(), Compression.INT8)
    tokens, _ = _encoded(torch.zeros(3, 16, dtype=torch.int64), Compression.INT8)

    for header, boundary in ((floats, TOKENS), (tokens, FLOATS)):
        with pytest.raises(BadTensor, match="cut and task differ"):
            check_announced(header, boundary, n_samples_max=3)
    with pytest.raises(BadTensor, match="1 to 2 samples"):
        check_announced(floats, FLOATS, n_samples_max=2)
    with pytest.raises(BadTensor, match="expected 1 to"):
        check_announced(floats, Boundary(shape=(32, 16), dtype=torch.float32), n_samples_max=3)


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("bit", [0, 1000, 4095])
def test_a_bit_that_flips_anywhere_on_the_way_is_found_by_whoever_gets_the_bytes(
    compression: Compression, bit: int
) -> None:
    codec = Codec(compression)
    made = codec.encode(_floats())
    flipped = bytearray(made.payload)
    flipped[bit // 8] ^= 1 << bit % 8

    for read in (codec.receive, codec.decode):
        with pytest.raises(ChecksumMismatch):
            read(made.header, bytes(flipped))
        with pytest.raises(ChecksumMismatch):
            read(made.header, made.payload[:-1])


@pytest.mark.parametrize("compression", list(Compression))
def test_what_is_handed_on_has_the_bytes_and_the_hash_of_who_made_it_and_nothing_else(
    compression: Compression,
) -> None:
    codec = Codec(compression)
    made = codec.encode(_floats())
    header = TensorHeader.FromString(made.header.SerializeToString() + b"\x7a\x04lie!")  # a field that is not known
    header.name = "lie"

    received = codec.receive(header, memoryview(made.payload))

    assert (received, received.kind, received.n_samples) == (made, FLOATS, 3)


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_bytes_are_those_of_the_protocols_codec(compression: Compression, n: int) -> None:
    x = torch.randn(1, n, generator=torch.Generator().manual_seed(n))
    x[0, : n // 3] = 0

    header, payload = _encoded(x, compression)

    expected, same = encode_tensor(x.numpy(), compression.codec)
    assert payload == same
    assert (header.codec, header.shape, header.payload_bytes) == (expected.codec, expected.shape, len(same))
    decoded = decode_activations(header, payload, Boundary(shape=(n,), dtype=torch.float32), n_samples_max=1)
    assert decoded.numpy().tobytes() == decode_tensor(expected, payload).tobytes()


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_sent(compression: Compression, value: float) -> None:
    x = _floats()
    x[2, 15, 31] = value

    with pytest.raises(BadTensor, match="NaN, infinities or values too large"):
        encode_activations(x, compression)


def test_what_half_precision_cannot_hold_is_not_sent() -> None:
    with pytest.raises(BadTensor, match="too large for fp16"):
        encode_activations(_floats() * 1e6, Compression.FP16)


@pytest.mark.parametrize(
    ("compression", "bits"),
    [
        (Compression.NONE, b"\x00\x00\xc0\x7f"),  # NaN
        (Compression.FP16, b"\x00\xfc"),  # minus infinity
        (Compression.INT8, b"\x00\x00\x80\x7f"),  # a scale that is infinite
        (Compression.INT8, b"\x00\x00\xc0\x7f"),
        (Compression.INT8, b"\x00\x00\x00\x7c"),  # 128 levels of this scale are infinite
        (Compression.INT8, b"\x00\x00\x80\xbf"),  # -1
        (Compression.INT8, b"\x00\x00\x00\x80"),  # -0
        (Compression.INT8, b"\x00\x00\x00\x00"),  # 0, though its block holds other values
    ],
)
def test_what_no_encoder_sends_is_refused(compression: Compression, bits: bytes) -> None:
    header, payload = _encoded(_floats(), compression)
    forged = bits + payload[len(bits) :]
    header.blake3 = blake3(forged).digest()

    for read in (Codec(compression).receive, Codec(compression).decode):
        with pytest.raises(BadTensor, match="its sender diverged or lies"):
            read(header, forged)


def _floats() -> Tensor:
    return torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(2))


def _through(x: Tensor, compression: Compression) -> Tensor:
    header, payload = _encoded(x, compression)
    return decode_activations(header, payload, FLOATS, n_samples_max=3)


def _encoded(x: Tensor, compression: Compression) -> tuple[TensorHeader, bytes]:
    made = encode_activations(x, compression)
    return made.header, made.payload
