"""Flax msgpack files of the retired Flax models of transformers. In: a path. Out: tensors under PyTorch's names.

The file is walked in place (nested maps of arrays); an array is read when it is asked for. Guaranteed: depth, counts
and lengths are held against the file's size before anything is made of them; values other than arrays are refused.
"""

import mmap
import pathlib
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlm.errors import Damaged, reading
from jaxlm.formats.cursor import Cursor
from jaxlm.formats.source import Entry, mapped, transposed

_DEPTH = 16
_ARRAY = 1  # flax.serialization's extension type of an array
_DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(jnp.bfloat16),
    "float64": np.dtype(np.float64),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint32": np.dtype(np.uint32),
    "bool": np.dtype(bool),
}
_LETTERS = {1: "B", 2: "H", 4: "I"}  # of `struct`, by size


def entries(path: str | pathlib.Path, shown: str = "") -> dict[str, Entry]:
    """The arrays of a flax_model.msgpack under PyTorch's names and in its layouts. UserError if it is damaged."""
    path, shown = pathlib.Path(path), shown or str(path)
    found: dict[str, Entry] = {}
    with (
        reading(shown, "not a readable Flax file"),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        reader = _Reader(data, ">")
        for names, (dtype, shape, start) in reader.arrays((), 0):
            names = names[1:] if names[:1] == ("params",) and names[1:] else names
            entry = mapped(path, dtype, shape, start, shown)
            name = ".".join((*names[:-1], _LAST.get(names[-1], names[-1])))
            if name in found:
                raise Damaged(f"{name} stands there twice")
            # Flax multiplies x @ kernel, PyTorch x @ weight.T; GPT-2's layer is the other way round in both.
            found[name] = transposed(entry) if names[-1] == "kernel" else entry
        if reader.left:
            raise Damaged(f"{reader.left} bytes follow its end")
    return found


_LAST = {"kernel": "weight", "embedding": "weight", "scale": "weight"}
_Place = tuple[np.dtype, tuple[int, ...], int]


class _Reader(Cursor):
    """Walks msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md): maps, text, numbers, bytes, arrays."""

    def arrays(self, outer: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], _Place]]:
        """Every array below the map that stands here: (names from outside in, where it lies)."""
        if depth > _DEPTH:
            raise Damaged(f"it is nested more than {_DEPTH} deep")
        for _ in range(self._count()):
            name = self._value()
            if not isinstance(name, str):
                raise Damaged(f"a key is a {type(name).__name__}, not text")
            names = (*outer, name)
            code = self._ahead()
            if 0x80 <= code <= 0x8F or code in (0xDE, 0xDF):
                yield from self.arrays(names, depth + 1)
            else:
                yield names, self._array(".".join(names))

    def _count(self) -> int:
        """Entries of the map that begins here."""
        code = self.take("B")
        if 0x80 <= code <= 0x8F:
            count = code & 0x0F
        elif code in (0xDE, 0xDF):
            count = self._number(2 if code == 0xDE else 4)
        else:
            raise Damaged("it does not hold named arrays")
        return self.room(count, 2)

    def _array(self, name: str) -> _Place:
        code = self.take("B")
        sizes = {0xC7: 1, 0xC8: 2, 0xC9: 4}
        fixed = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
        if code not in sizes and code not in fixed:
            raise Damaged(f"{name} is not an array")
        length = fixed[code] if code in fixed else self._number(sizes[code])
        kind, end = self.take("B"), self.at + length
        if kind != _ARRAY or end > self.size:
            raise Damaged(f"{name} is of kind {kind}, not an array, or reaches beyond the end of the file")
        parts = self._value()
        if not isinstance(parts, list) or len(parts) != 3 or self.at != end:
            raise Damaged(f"{name} is not an array of shape, dtype and numbers")
        shape, dtype, (start, size) = parts
        known = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 8
        if not known or not isinstance(dtype, str) or dtype not in _DTYPES:
            raise Damaged(f"{name} has shape {shape} and dtype {dtype!r}; read are {', '.join(_DTYPES)}")
        if size != _DTYPES[dtype].itemsize * int(np.prod(shape, dtype=object)):
            raise Damaged(f"{name} has {size} bytes for shape {shape} of {dtype}")
        return _DTYPES[dtype], tuple(shape), start

    def _value(self) -> Any:
        """Text, a number, an array of those, or (start, length) of bytes."""
        code = self.take("B")
        if code <= 0x7F:
            return code
        if 0xA0 <= code <= 0xBF or code in (0xD9, 0xDA, 0xDB):
            length = code & 0x1F if code <= 0xBF else self._number(1 << (code - 0xD9))
            return self.bytes(length).decode()
        if code in (0xC4, 0xC5, 0xC6):
            length = self._number(1 << (code - 0xC4))
            return self.skip(length), length
        if code in (0xCC, 0xCD, 0xCE):
            return self._number(1 << (code - 0xCC))
        if 0x90 <= code <= 0x9F:
            return [self._item() for _ in range(code & 0x0F)]
        raise Damaged(f"it has a value of kind {code:#x}, which arrays do not consist of")

    def _item(self) -> Any:
        """An entry of an array: a flat value, or a shape."""
        if 0x90 <= self._ahead() <= 0x9F:
            return [self._byte_or_number() for _ in range(self.take("B") & 0x0F)]
        return self._value()

    def _byte_or_number(self) -> Any:
        if self._ahead() >= 0x80 and self._ahead() not in (0xCC, 0xCD, 0xCE):
            raise Damaged("a shape has something that is not a size")
        return self._value()

    def _number(self, size: int) -> int:
        return self.take(_LETTERS[size])

    def _ahead(self) -> int:
        """The next byte, which is read again."""
        if not self.left:
            raise Damaged("it ends in the middle")
        return self.data[self.at]
