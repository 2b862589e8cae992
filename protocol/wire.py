"""Reading a protobuf message that came from outside."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from .errors import InvalidMessage, MessageTooLarge

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes, *, bytes_max: int, what: str) -> M:
    """Decode `data`, after its length was checked.

    Args:
        what: what to call it in an error, with an article ("a ticket").
    Raises: MessageTooLarge, InvalidMessage.
    """
    if len(data) > bytes_max:
        raise MessageTooLarge(f"{what} of {len(data)} bytes exceeds {bytes_max}: discard it")
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise InvalidMessage(f"{what} of {len(data)} bytes is not a {kind.__name__}: discard it") from None
    return message
