"""Reading a protobuf message that came from outside."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from .errors import InvalidMessage, MessageTooLarge

M = TypeVar("M", bound=Message)
T = TypeVar("T")


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


def remembered(n: int, *, bytes_max: int) -> Callable[[Callable[[bytes], T]], Callable[[bytes], T]]:
    """Let a function read short messages that come again and again only once. What it returns must not be changed.

    Args:
        n: messages that are remembered.
        bytes_max: longest of them.
    """

    def remembering(read: Callable[[bytes], T]) -> Callable[[bytes], T]:
        read_once = lru_cache(maxsize=n)(read)

        @wraps(read)
        def read_again(data: bytes) -> T:
            return read_once(data) if len(data) <= bytes_max else read(data)

        return read_again

    return remembering
