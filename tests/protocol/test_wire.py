import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.protocol.errors import InvalidMessage, MessageTooLarge
from gossamer.protocol.records_pb2 import SignedRecord
from gossamer.protocol.wire import parse


def test_a_message_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(MessageTooLarge, match="a record of 11 bytes exceeds 10"):
        parse(SignedRecord, b"\xff" * 11, bytes_max=10, what="a record")


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(InvalidMessage, match="is not a SignedRecord"):
        parse(SignedRecord, b"\xff\xff", bytes_max=10, what="a record")


@given(st.binary(max_size=100))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_bytes_are_a_message_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        assert isinstance(parse(SignedRecord, data, bytes_max=100, what="a record"), SignedRecord)
