"""GGUF files. In: a path. Out: their metadata, and tensors that are dequantised when they are read (package `gguf`).

Guaranteed: every length and count of the header is held against the file's size before anything is made of it; one
tensor at most is dequantised at a time. The header is read here, since the package's own reader believes every count.
"""

import dataclasses
import math
import mmap
import pathlib
import struct
from typing import Any

import numpy as np

from jaxlm.errors import Damaged, UserError, reading
from jaxlm.formats.cursor import Cursor
from jaxlm.formats.source import Entry, Index

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_ALIGNMENT = 32


@dataclasses.dataclass(frozen=True)
class Gguf:
    """One file."""

    metadata: dict[str, Any]
    tensors: dict[str, Entry]  # float32, in PyTorch's order of axes
    path: str


def read(path: str | pathlib.Path, shown: str = "") -> Gguf:
    """The header of a file; no tensor yet. UserError when it is damaged or `gguf` is not installed."""
    path, shown = pathlib.Path(path), shown or str(path)
    try:
        import gguf
    except ImportError as error:
        raise UserError(
            f'{shown}: reading GGUF needs the package gguf: pip install "jaxlm[gguf]".'
        ) from error
    with (
        reading(shown, "not a readable GGUF file"),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return _read(path, _Header(data, "<"), gguf, shown)


def _read(path: pathlib.Path, header: "_Header", gguf: Any, shown: str) -> Gguf:
    if header.take("I") != 0x46554747:
        raise Damaged("it does not begin with GGUF")
    if (version := header.take("I")) not in (2, 3):
        raise Damaged(f"it has version {version}; read are 2 and 3")
    # A tensor takes 32 bytes of header at least, an entry of the metadata 13.
    tensors, entries = header.count(32), header.count(13)
    metadata = {}
    for _ in range(entries):
        key = header.string()
        metadata[key] = header.value(header.take("I"), 0)
    found = [_tensor_info(header) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= 2**16:
        raise Damaged(f"general.alignment={alignment}")
    start = -(-header.at // alignment) * alignment
    made = {}
    for name, shape, kind, offset in found:
        if kind not in set(gguf.GGMLQuantizationType):
            raise Damaged(
                f"{name} is quantised in a way (number {kind}) that this version of gguf does not know"
            )
        quantisation = gguf.GGMLQuantizationType(kind)
        block, size = gguf.GGML_QUANT_SIZES[quantisation]
        count = math.prod(shape)
        if (
            name in made
            or not shape
            or shape[-1] % block
            or start + offset + count // block * size > header.size
        ):
            raise Damaged(
                f"{name} {shape}: named twice, no whole blocks of {block}, or beyond the end of the file"
            )
        made[name] = _entry(path, shape, quantisation, start + offset, (block, size), gguf, shown)
    return Gguf(metadata, made, shown)


def _tensor_info(header: "_Header") -> tuple[str, tuple[int, ...], int, int]:
    name, rank = header.string(), header.take("I")
    if not 0 < rank <= 4:
        raise Damaged(f"{name} has {rank} axes")
    shape = tuple(header.take("Q") for _ in range(rank))[::-1]
    return name, shape, header.take("I"), header.take("Q")


def _entry(
    path: pathlib.Path,
    shape: tuple[int, ...],
    kind: Any,
    offset: int,
    sizes: tuple[int, int],
    gguf: Any,
    shown: str,
) -> Entry:
    block, size = sizes
    row = shape[-1] // block * size  # bytes

    def read(index: Index) -> np.ndarray:
        if math.prod(shape) == 0:
            return np.empty(shape, np.float32)[index]
        packed = np.memmap(path, np.uint8, "r", offset, (*shape[:-1], row))
        rows = index[: len(shape) - 1]
        # Whole blocks only; what is wanted of them is cut out afterwards.
        part = np.ascontiguousarray(packed[rows])
        try:
            if kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
                numbers = part.view(np.float32 if kind == gguf.GGMLQuantizationType.F32 else np.float16)
            else:
                numbers = gguf.quants.dequantize(part, kind)
        except NotImplementedError as error:
            raise UserError(f"{shown}: gguf cannot dequantise {kind.name}: {error}.") from error
        return np.asarray(numbers[(..., *index[len(shape) - 1 :])], np.float32)

    return Entry(shape, np.dtype(np.float32), read, shown)


class _Header(Cursor):
    """The values that a header consists of."""

    def count(self, least: int) -> int:
        """How many things of `least` bytes at least follow."""
        return self.room(self.take("Q"), least)

    def string(self) -> str:
        """Text."""
        return self.bytes(self.count(1)).decode()

    def value(self, kind: int, depth: int) -> Any:
        """An entry of the metadata."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner = self.take("I")
            if inner in _SCALARS:
                letter = _SCALARS[inner]
                count = self.count(struct.calcsize("=" + letter))
                return list(
                    struct.unpack(f"<{count}{letter}", self.bytes(count * struct.calcsize("=" + letter)))
                )
            if depth < 4:
                return [self.value(inner, depth + 1) for _ in range(self.count(8))]
        if kind not in _SCALARS:
            raise Damaged(f"a value of kind {kind}")
        return self.take(_SCALARS[kind])
