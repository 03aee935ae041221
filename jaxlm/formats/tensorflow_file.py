"""TensorFlow checkpoints (bert_model.ckpt.index, .data-*) without TensorFlow. In: a prefix. Out: transformers' names.

The index is a LevelDB table of protocol buffers, the data are the numbers; both formats are small and frozen. Names of
the original BERT release become those of transformers. Guaranteed: offsets and sizes are checked against the files; a
compressed or sliced checkpoint, which TensorFlow's own Saver never wrote, is refused.
"""

import functools
import math
import pathlib
import re
import struct
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from jaxlm.errors import Damaged, reading
from jaxlm.formats.folder import Folder
from jaxlm.formats.protobuf import fields, varint
from jaxlm.formats.source import Entry, mapped, transposed

_MAGIC, _FOOTER = 0xDB4775248B80FB57, 48
# bytes; BERT-large's index with its optimizer's state has 73 kB, and its longest name 98
_INDEX_LIMIT, _LONGEST_NAME = 2 * 2**20, 512
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
    fix = "Fetch it again, and name it by its prefix, .../bert_model.ckpt."
    with reading(str(index), "not a readable TensorFlow checkpoint", fix):
        if index.stat().st_size > _INDEX_LIMIT:
            raise Damaged(f"it has {index.stat().st_size} bytes; at most {_INDEX_LIMIT} are read")
        return _variables(pathlib.Path(prefix), index.read_bytes())


def _variables(prefix: pathlib.Path, table: bytes) -> dict[str, Entry]:
    file, found, shards = functools.cache(Folder(prefix.parent).file), {}, 0
    for key, value in _table(table):
        entry = dict(fields(value))
        if not key:
            shards = entry.get(1, 1)
            if entry.get(2, 0):
                raise Damaged("its numbers are big-endian")
            continue
        if 7 in entry or entry.get(1) not in _DTYPES:
            raise Damaged(f"{key.decode()} is sliced, or of a type that is not a number")
        sizes = [dict(fields(dim)).get(1, 0) for number, dim in fields(entry.get(2, b"")) if number == 2]
        dtype, shape = _DTYPES[entry[1]], tuple(sizes)
        path = file(f"{prefix.name}.data-{entry.get(3, 0):05d}-of-{shards:05d}")
        offset, size = entry.get(4, 0), entry.get(5, 0)
        if offset + size > path.stat().st_size or size != math.prod(shape) * dtype.itemsize:
            raise Damaged(f"{key.decode()} {shape} is not in {path.name}: cut, or of another size")
        found[key.decode()] = mapped(path, dtype, shape, offset, str(path))
    return found


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
        raise Damaged("it does not end as a table does")
    at = len(data) - _FOOTER
    for _ in range(2):  # the block of meta data, which is empty
        _, at = varint(data, at)
    offset, at = varint(data, at)
    size, at = varint(data, at)
    read = 0
    for _, handle in _block(data, offset, size):
        inner, end = varint(handle, 0)
        if inner < read:
            raise Damaged("its blocks overlap")
        read = inner + (length := varint(handle, end)[0])
        yield from _block(data, inner, length)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size + 5 > len(data) or size < 4:
        raise Damaged("a block reaches beyond the end of the file")
    if data[offset + size] != 0:
        raise Damaged("its index is compressed")
    block = data[offset : offset + size]
    end = size - 4 - 4 * struct.unpack("<I", block[-4:])[0]  # behind it: where keys are written out in full
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        rest, at = varint(block, at)
        length, at = varint(block, at)
        if shared + rest > _LONGEST_NAME:
            raise Damaged(f"a name of more than {_LONGEST_NAME} bytes")
        key = key[:shared] + block[at : at + rest]
        yield key, block[at + rest : at + rest + length]
        at += rest + length
