"""Tensors that carry one number travel as any others do."""

from __future__ import annotations

import pytest
import torch

from gossamer.peer.pipeline.activations import Codec, Compression
from gossamer.protocol.errors import ChecksumMismatch
from gossamer.simulator.sized_tensors import Remembered, SizedCodec, constant, number_of

SHAPE = (5, 100)


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_constants_bytes_are_those_of_any_tensor_twice_as_well(compression: Compression, dtype: torch.dtype) -> None:
    tensor = constant(3.0, SHAPE, dtype)
    usual, sized = Codec(compression), SizedCodec(compression, Remembered())

    for _ in range(2):
        parcel = sized.encode(tensor)
        decoded = sized.decode(parcel.header, memoryview(parcel.payload))

        assert parcel == usual.encode(tensor.clone())
        assert sized.receive(parcel.header, memoryview(parcel.payload)) == parcel
        torch.testing.assert_close(decoded, usual.decode(parcel.header, parcel.payload), rtol=0, atol=0)
        assert number_of(decoded) is not None


def test_bytes_that_were_altered_on_the_way_are_noticed_although_their_hash_is_known() -> None:
    codec = SizedCodec(Compression.INT8, Remembered())
    parcel = codec.encode(constant(0.1, SHAPE))

    for read in (codec.receive, codec.decode):
        with pytest.raises(ChecksumMismatch):
            read(parcel.header, parcel.payload[:-1] + b"\x00")


def test_what_is_no_constant_is_coded_as_usual() -> None:
    codec = SizedCodec(Compression.NONE, Remembered())
    tensor = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))

    parcel = codec.encode(tensor)

    assert torch.equal(codec.decode(parcel.header, parcel.payload), tensor)
    assert number_of(codec.decode(parcel.header, parcel.payload)) is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.simulator.sized_tensors._REMEMBERED", 4)
    remembered = Remembered()
    codec = SizedCodec(Compression.FP16, remembered)

    for number in range(20):
        codec.encode(constant(1.0 + number * 1e-5, SHAPE))  # some have the same halves

    assert len(remembered.by_hash) <= 4
    assert len(remembered.by_number) <= 4
