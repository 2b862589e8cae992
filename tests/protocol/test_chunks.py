import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.protocol.chunks import Reassembly, chunk, chunk_hashes, n_chunks
from gossamer.protocol.errors import ChecksumMismatch, InvalidMessage, MessageTooLarge

DATA = bytes(range(10))


def reassembly(data: bytes = DATA, size: int = 4) -> Reassembly:
    return Reassembly(total_bytes=len(data), size=size, hashes=chunk_hashes(data, size), bytes_max=1000)


@given(st.binary(max_size=300), st.integers(1, 64), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_chunks_in_any_order_make_the_whole(data: bytes, size: int, order: random.Random) -> None:
    pieces = list(enumerate(chunk(data, size)))
    order.shuffle(pieces)
    whole = reassembly(data, size)

    fresh = [whole.accept(index, piece) for index, piece in pieces]

    assert fresh == [True] * n_chunks(len(data), size)
    assert whole.missing() == []
    assert whole.result() == data


def test_what_is_missing_is_known() -> None:
    whole = reassembly()

    whole.accept(1, DATA[4:8])

    assert whole.missing() == [0, 2]
    with pytest.raises(ValueError, match="2 of 3 chunks are missing"):
        whole.result()


def test_a_chunk_that_came_twice_counts_once() -> None:
    whole = reassembly()

    assert whole.accept(0, DATA[:4])
    assert not whole.accept(0, DATA[:4])


def test_a_second_chunk_with_other_content_is_refused() -> None:
    whole = reassembly()
    for index, piece in enumerate(chunk(DATA, 4)):
        whole.accept(index, piece)

    with pytest.raises(ChecksumMismatch, match="chunk 0 is not the one that was announced"):
        whole.accept(0, b"evil")

    assert whole.result() == DATA


@pytest.mark.parametrize(
    ("index", "data"), [(-1, DATA[8:]), (3, b""), (0, DATA[:3]), (0, DATA[:5]), (2, DATA[6:]), (2, b"")]
)
def test_a_chunk_out_of_range_or_of_another_length_is_refused(index: int, data: bytes) -> None:
    whole = reassembly()

    with pytest.raises(InvalidMessage):
        whole.accept(index, data)

    assert whole.missing() == [0, 1, 2]


def test_a_chunk_in_anothers_place_is_refused() -> None:
    with pytest.raises(ChecksumMismatch):
        reassembly().accept(1, DATA[:4])


def test_a_later_change_of_the_senders_buffer_does_no_harm() -> None:
    buffer = bytearray(DATA[:4])
    whole = reassembly(DATA[:4])
    whole.accept(0, memoryview(buffer))

    buffer[0] = 99

    assert whole.result() == DATA[:4]


def test_nothing_is_reassembled_from_nothing() -> None:
    assert reassembly(b"").result() == b""


@pytest.mark.parametrize("total_bytes", [1001, 2**63, -1])
def test_an_announcement_that_is_too_long_is_refused(total_bytes: int) -> None:
    with pytest.raises(MessageTooLarge, match="1000 are allowed"):
        Reassembly(total_bytes=total_bytes, size=4, hashes=[], bytes_max=1000)


@pytest.mark.parametrize(
    ("total_bytes", "size", "hashes"),
    [(10, 4, [bytes(32)] * 2), (10, 4, [bytes(32)] * 4), (10, 0, []), (4, 4, [bytes(31)]), (0, 4, [bytes(32)])],
)
def test_an_announcement_that_does_not_add_up_is_refused(total_bytes: int, size: int, hashes: list[bytes]) -> None:
    with pytest.raises(InvalidMessage):
        Reassembly(total_bytes=total_bytes, size=size, hashes=hashes, bytes_max=1000)
