"""Activations on the wire."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.peer.pipeline.activations import (
    Compression,
    check_announced,
    decode_activations,
    encode_activations,
    wire_bytes,
)
from gossamer.peer.pipeline.microbatches import Boundary
from gossamer.protocol.errors import BadTensor, ChecksumMismatch

FLOATS = Boundary(shape=(16, 32), dtype=torch.float32)
TOKENS = Boundary(shape=(16,), dtype=torch.int64)


@pytest.mark.parametrize(("compression", "bytes_each"), [("int8", 1 + 4 / 256), ("fp16", 2), ("none", 4)])
def test_lengths_are_as_stated(compression: str, bytes_each: float) -> None:
    chosen = Compression(compression)

    header, payload = encode_activations(_floats(), chosen)

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

    header, payload = encode_activations(tokens, compression)

    assert torch.equal(decode_activations(header, payload, TOKENS, n_samples_max=3), tokens)
    assert len(payload) == wire_bytes(TOKENS, compression, 3)


def test_other_kinds_of_tensors_are_refused_before_their_bytes_are_awaited() -> None:
    floats, _ = encode_activations(_floats(), Compression.INT8)
    tokens, _ = encode_activations(torch.zeros(3, 16, dtype=torch.int64), Compression.INT8)

    for header, boundary in ((floats, TOKENS), (tokens, FLOATS)):
        with pytest.raises(BadTensor, match="cut and task differ"):
            check_announced(header, boundary, n_samples_max=3)
    with pytest.raises(BadTensor, match="1 to 2 samples"):
        check_announced(floats, FLOATS, n_samples_max=2)
    with pytest.raises(BadTensor, match="expected 1 to"):
        check_announced(floats, Boundary(shape=(32, 16), dtype=torch.float32), n_samples_max=3)


def test_damaged_bytes_are_refused() -> None:
    header, payload = encode_activations(_floats(), Compression.INT8)

    with pytest.raises(ChecksumMismatch):
        decode_activations(header, payload[:-1] + b"\x55", FLOATS, n_samples_max=3)


def test_what_is_not_finite_is_not_sent() -> None:
    with pytest.raises(BadTensor):
        encode_activations(_floats() / 0, Compression.INT8)


def _floats() -> Tensor:
    return torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(2))


def _through(x: Tensor, compression: Compression) -> Tensor:
    header, payload = encode_activations(x, compression)
    return decode_activations(header, payload, FLOATS, n_samples_max=3)
