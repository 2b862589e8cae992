"""Base58 as libp2p and Bitcoin write it: digits and letters without 0, O, I and l, so that a name can be read aloud.

A byte string is a number in base 256, written in base 58, with a "1" in front for every zero byte in front.
"""

from __future__ import annotations

from typing import Final

ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE: Final = {letter: value for value, letter in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    """The text of some bytes."""
    number, letters = int.from_bytes(data), []
    while number:
        number, digit = divmod(number, 58)
        letters.append(ALPHABET[digit])
    n_zeros = len(data) - len(data.lstrip(b"\0"))
    return ALPHABET[0] * n_zeros + "".join(reversed(letters))


def decode(text: str) -> bytes:
    """The bytes of a text. Takes time that grows with the square of its length: bound that first.

    Raises: ValueError for letters that are not of the alphabet.
    """
    number = 0
    for letter in text:
        if letter not in _VALUE:
            raise ValueError(f"{letter!r} is no letter of base58")
        number = 58 * number + _VALUE[letter]
    n_zeros = len(text) - len(text.lstrip(ALPHABET[0]))
    return bytes(n_zeros) + number.to_bytes((number.bit_length() + 7) // 8)
