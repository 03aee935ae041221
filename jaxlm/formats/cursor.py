"""A place in a binary file that moves forward. In: a map of the file. Out: numbers and bytes, one after the other.

Guaranteed: nothing beyond the end is read, and no length is believed before it is held against what is left.
"""

import mmap
import struct
from typing import Any, Literal

from jaxlm.errors import Damaged


class Cursor:
    """Where a reader stands; `order` is that of the bytes of its numbers."""

    def __init__(self, data: mmap.mmap, order: Literal["<", ">"]):
        self.data, self.order, self.at, self.size = data, order, 0, len(data)

    @property
    def left(self) -> int:
        """Bytes that follow."""
        return self.size - self.at

    def take(self, kind: str) -> Any:
        """A number; `kind` is its letter in `struct`."""
        return struct.unpack(self.order + kind, self.bytes(struct.calcsize("=" + kind)))[0]

    def bytes(self, length: int) -> bytes:
        """The next `length` bytes."""
        start = self.skip(length)
        return self.data[start : start + length]

    def skip(self, length: int) -> int:
        """Where `length` bytes begin that are left out."""
        if length > self.left:
            raise Damaged("it ends in the middle")
        self.at += length
        return self.at - length

    def room(self, count: int, least: int) -> int:
        """`count`, of things that take `least` bytes at least and follow here."""
        if count * least > self.left:
            raise Damaged(f"it claims {count} entries, with {self.left} bytes left")
        return count
