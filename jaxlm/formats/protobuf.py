"""Fields of a protocol buffer without a schema. In: bytes of a message. Out: number and value of each field, in order.

Enough for the frozen messages that are read here (TensorFlow's checkpoint index, SentencePiece's model).
"""

import struct
from collections.abc import Iterator
from typing import Any

from jaxlm.errors import Damaged


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of every field: an int, or the bytes of text, messages and 32-bit numbers."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        match tag & 7:
            case 0:
                value, at = varint(message, at)
            case 2:
                length, at = varint(message, at)
                if at + length > len(message):
                    raise Damaged("a field reaches beyond its message")
                value, at = message[at : at + length], at + length
            case 5:
                value, at = message[at : at + 4], at + 4
            case kind:
                raise Damaged(f"a field of wire type {kind}")
        yield tag >> 3, value


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Damaged("a number without an end")
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def float32(value: int | bytes) -> float:
    """The value of a field of type float."""
    return struct.unpack("<f", value)[0] if isinstance(value, bytes) and len(value) == 4 else 0.0
