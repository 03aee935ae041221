"""Named arrays in safetensors files, read and written tensor by tensor. In: a path. Out: a source, arrays, or a file.

Guaranteed: a header is checked in full before a tensor is touched (lengths, dtypes, names, offsets without gap or
overlap); reading holds one tensor at most; what is written has the bytes that the safetensors library writes.
"""

import contextlib
import errno
import itertools
import json
import math
import os
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from jaxlm.errors import Damaged, UserError, reading
from jaxlm.formats.folder import parse
from jaxlm.formats.source import Entry, mapped

# As the format's own library: https://github.com/huggingface/safetensors
_HEADER_LIMIT = 100_000_000
_ZEROS = 2**20  # bytes written at once where room cannot be reserved
_DTYPES = {  # in the order that files have them in, largest last in the library's own list
    "BOOL": np.dtype(bool),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I16": np.dtype(np.int16),
    "U16": np.dtype(np.uint16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "I32": np.dtype(np.int32),
    "U32": np.dtype(np.uint32),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "U64": np.dtype(np.uint64),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ORDER = list(_DTYPES.values())


def entries(path: str | pathlib.Path, shown: str = "") -> dict[str, Entry]:
    """The tensors of one file, none read yet. `shown` is what messages call the file. UserError if it is damaged."""
    path, shown = pathlib.Path(path), shown or str(path)
    with _reading(shown):
        header, start, size = _header(path, shown)
        spans: list[tuple[int, int, str]] = []
        found = {}
        for name, value in header.items():
            if name == "__metadata__":
                continue
            dtype, shape, (first, last) = _description(value, f"{shown}: {name}")
            spans.append((first, last, name))
            found[name] = mapped(path, dtype, shape, start + first, shown)
        _check_spans(spans, size, shown)
    return found


def _reading(shown: str) -> contextlib.AbstractContextManager[None]:
    return reading(shown, "not a readable safetensors file", "Fetch or export it again.")


def load(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of one file. Raises UserError if there is none or it is damaged."""
    return {name: entry.read(()) for name, entry in entries(path).items()}


def save(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write one file; transformers reads it ('format': 'pt' says that names and layouts are PyTorch's)."""
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    places = create(path, {name: (array.shape, array.dtype) for name, array in arrays.items()})
    for name, array in arrays.items():
        places.array(name)[...] = array


class Places:
    """The tensors of a file that is being written, in any order, as arrays over the file itself."""

    def __init__(self, path: pathlib.Path, offsets: Mapping[str, tuple[tuple[int, ...], np.dtype, int]]):
        self._path, self._offsets = path, offsets

    def __contains__(self, name: str) -> bool:
        return name in self._offsets

    def array(self, name: str) -> np.ndarray:
        """What is assigned to it is in the file."""
        shape, dtype, offset = self._offsets[name]
        if math.prod(shape) == 0:
            return np.empty(shape, dtype)
        return np.memmap(self._path, dtype, "r+", offset, shape)


def metadata(path: str | pathlib.Path) -> dict[str, str] | None:
    """The text that a file carries besides tensors."""
    with _reading(str(path)):
        found = _header(pathlib.Path(path), str(path))[0].get("__metadata__")
        if found is not None and not all(isinstance(value, str) for value in found.values()):
            raise Damaged("its metadata are not texts by name")
        return found


def create(
    path: str | pathlib.Path,
    tensors: Mapping[str, tuple[Sequence[int], np.dtype]],
    metadata: Mapping[str, str] | None = types.MappingProxyType({"format": "pt"}),
) -> Places:
    """A file with its header and the room for the tensors. OSError when the disk has not got that room."""
    path = pathlib.Path(path)
    # The library's order: by dtype, widest first, then by name.
    names = sorted(tensors, key=lambda name: (-_ORDER.index(np.dtype(tensors[name][1])), name))
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offsets, end = {}, 0
    for name in names:
        shape, dtype = tuple(map(int, tensors[name][0])), np.dtype(tensors[name][1])
        first, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [first, end]}
        offsets[name] = (shape, dtype, first)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        _reserve(file, end)
    return Places(path, {name: (s, d, start + first) for name, (s, d, first) in offsets.items()})


def _reserve(file: BinaryIO, size: int) -> None:
    """Room on the disk behind what was written. A write through a map into a hole that finds no room is a SIGBUS."""
    file.flush()
    try:
        if size:
            os.posix_fallocate(file.fileno(), file.tell(), size)
    except (AttributeError, OSError) as error:  # macOS has none, some file systems neither
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        for start in range(0, size, _ZEROS):
            file.write(bytes(min(_ZEROS, size - start)))


def _header(path: pathlib.Path, shown: str) -> tuple[dict[str, Any], int, int]:
    """(header, where the data starts, bytes of data)."""
    total = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if total < 10 or not 2 <= length <= min(_HEADER_LIMIT, total - 8):
            raise Damaged(
                f"its header would have {length} bytes, of {total} in the file (at most {_HEADER_LIMIT})"
            )
        text = file.read(length)
    return parse(text, f"{shown}: the header"), 8 + length, total - 8 - length


def _description(value: Any, where: str) -> tuple[np.dtype, tuple[int, ...], tuple[int, int]]:
    """One entry of a header, checked."""
    try:
        kind, shape, (first, last) = value["dtype"], value["shape"], value["data_offsets"]
        whole = type(kind) is str and all(type(n) is int and 0 <= n < 2**62 for n in (*shape, first, last))
    except (TypeError, KeyError, ValueError):
        whole, kind, shape, first, last = False, None, (), 0, 0
    if not whole or len(shape) > 8:
        raise UserError(f"{where}: the header does not say dtype, shape and offsets. The file is damaged.")
    if kind not in _DTYPES:
        raise UserError(f"{where} is stored as {kind!r}; read are {', '.join(_DTYPES)}. Convert it first.")
    dtype = _DTYPES[kind]
    if last - first != math.prod(shape) * dtype.itemsize:
        raise UserError(
            f"{where}: {kind} of shape {tuple(shape)} does not fill the bytes {first} to {last}. The file is damaged."
        )
    return dtype, tuple(shape), (first, last)


def _check_spans(spans: list[tuple[int, int, str]], size: int, shown: str) -> None:
    """The tensors have to lie one after another, from the header to the end of the file."""
    spans = sorted(spans)
    for (_, end, before), (start, _, name) in itertools.pairwise([(0, 0, "the header"), *spans]):
        if start != end:
            how = "overlaps" if start < end else "leaves a gap after"
            raise UserError(f"{shown}: {name} {how} {before} (bytes {start} and {end}). The file is damaged.")
    end = spans[-1][1] if spans else 0
    if end != size:
        raise UserError(
            f"{shown}: the header wants {end} bytes of data, the file has {size}. It was cut, or is damaged: fetch or "
            "export it again."
        )
