"""TensorFlow checkpoints (bert_model.ckpt.index, .data-*) without TensorFlow. In: a prefix. Out: transformers' names.

The index is a LevelDB table of protocol buffers, the data are the numbers; both formats are small and frozen. Names of
the original BERT release become those of transformers. Guaranteed: offsets and sizes are checked against the files; a
compressed or sliced checkpoint, which TensorFlow's own Saver never wrote, is refused.
"""

import math
import pathlib
import re
import struct
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from jaxlm.convert.protobuf import fields, varint
from jaxlm.convert.source import Entry, Index, transposed
from jaxlm.errors import UserError

_MAGIC, _FOOTER = 0xDB4775248B80FB57, 48
_INDEX_LIMIT = 64 * 2**20
_DTYPES = {  # DataType of tensorflow/core/framework/types.proto
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    9: np.dtype(np.int64),
    14: np.dtype(jnp.bfloat16),
    19: np.dtype(np.float16),
}
# The optimizer's state, and counters.
_SKIPPED = re.compile(r".*(adam_[mv]|AdamWeightDecayOptimizer.*|global_step|signal_early_stopping.*)")


class _Damaged(Exception):
    """What is wrong."""


def entries(prefix: str | pathlib.Path) -> dict[str, Entry]:
    """The weights of the original BERT release under transformers' names. `prefix` is .../bert_model.ckpt."""
    found = {}
    for name, entry in variables(prefix).items():
        if _SKIPPED.fullmatch(name):
            continue
        theirs, turned = _renamed(name)
        found[theirs] = transposed(entry) if turned else entry
    return found


def variables(prefix: str | pathlib.Path) -> dict[str, Entry]:
    """Every variable of a checkpoint under its own name."""
    index = pathlib.Path(f"{prefix}.index")
    try:
        if index.stat().st_size > _INDEX_LIMIT:
            raise _Damaged(f"it has {index.stat().st_size} bytes; at most {_INDEX_LIMIT} are read")
        return _variables(str(prefix), index.read_bytes())
    except OSError as error:
        raise UserError(
            f"{index}: {error.strerror}. Name the checkpoint by its prefix, .../bert_model.ckpt."
        ) from error
    except (_Damaged, IndexError, struct.error, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{index}: not a readable TensorFlow checkpoint: {error}. Fetch it again.") from error


def _variables(prefix: str, table: bytes) -> dict[str, Entry]:
    found, shards = {}, 0
    for key, value in _table(table):
        entry = dict(fields(value))
        if not key:
            shards = entry.get(1, 1)
            if entry.get(2, 0):
                raise _Damaged("its numbers are big-endian")
            continue
        if 7 in entry or entry.get(1) not in _DTYPES:
            raise _Damaged(f"{key.decode()} is sliced, or of a type that is not a number")
        sizes = [dict(fields(dim)).get(1, 0) for number, dim in fields(entry.get(2, b"")) if number == 2]
        dtype, shape = _DTYPES[entry[1]], tuple(sizes)
        path = pathlib.Path(f"{prefix}.data-{entry.get(3, 0):05d}-of-{shards:05d}")
        offset, size = entry.get(4, 0), entry.get(5, 0)
        if (
            not path.is_file()
            or offset + size > path.stat().st_size
            or size != math.prod(shape) * dtype.itemsize
        ):
            raise _Damaged(f"{key.decode()} {shape} is not in {path.name}: missing, cut, or of another size")
        found[key.decode()] = _entry(path, dtype, shape, offset)
    return found


def _entry(path: pathlib.Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> Entry:
    def read(index: Index) -> np.ndarray:
        if 0 in shape:
            return np.empty(shape, dtype)[index]
        return np.array(np.memmap(path, dtype, "r", offset, shape)[index])

    return Entry(shape, dtype, read, str(path))


def _renamed(name: str) -> tuple[str, bool]:
    """('bert/.../kernel') -> ('bert....weight', whether it is transposed)."""
    kernel = name.endswith("/kernel")
    name = re.sub(r"/layer_(\d+)/", r"/layer/\1/", name).replace("/", ".")
    ends = {
        "kernel": "weight",
        "gamma": "weight",
        "beta": "bias",
        "output_weights": "weight",
        "output_bias": "bias",
        "word_embeddings": "word_embeddings.weight",
        "position_embeddings": "position_embeddings.weight",
        "token_type_embeddings": "token_type_embeddings.weight",
    }
    outer, _, last = name.rpartition(".")
    return f"{outer}.{ends.get(last, last)}" if outer else last, kernel


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table (https://github.com/google/leveldb/blob/main/doc/table_format.md)."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise _Damaged("it does not end as a table does")
    at = len(data) - _FOOTER
    for _ in range(2):  # the block of meta data, which is empty
        _, at = varint(data, at)
    offset, at = varint(data, at)
    size, at = varint(data, at)
    for _, handle in _block(data, offset, size):
        inner, end = varint(handle, 0)
        yield from _block(data, inner, varint(handle, end)[0])


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size + 5 > len(data) or size < 4:
        raise _Damaged("a block reaches beyond the end of the file")
    if data[offset + size] != 0:
        raise _Damaged("its index is compressed")
    block = data[offset : offset + size]
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]  # behind it: where keys are written out in full
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        rest, at = varint(block, at)
        length, at = varint(block, at)
        key = key[:shared] + block[at : at + rest]
        yield key, block[at + rest : at + rest + length]
        at += rest + length
