"""Which tensor goes into which file, as what. In: stored weights, their tensors' shapes. Out: a `Layout`.

Weights that came from safetensors and are exported as they came keep names, dtypes, shards, buffers and copies, so that
the files have the same bytes. Else: present names, one dtype, shards filled one after the other.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.exchange import model_folder
from jaxlm.exchange.stored import Stored
from jaxlm.formats import safetensors_file
from jaxlm.formats.source import Entry

Dtype = Literal["float32", "bfloat16", "float16", "source"]
SHARD_BYTES = 5 * 10**9
INDEX = "model.safetensors.index.json"
_DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(jnp.bfloat16),
    "float16": np.dtype(np.float16),
}


@dataclasses.dataclass(frozen=True)
class Place:
    """One tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype
    file: str


@dataclasses.dataclass(frozen=True)
class Export:
    """All tensors of an export."""

    tensors: Mapping[str, Place]  # by the name in the file
    named: Mapping[str, str]  # name in the table -> name in the file
    metadata: Mapping[str, Mapping[str, str] | None]  # by file, where it came with some
    unchanged: bool  # as it came

    @property
    def files(self) -> list[str]:
        """Their names."""
        return sorted({place.file for place in self.tensors.values()})

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(math.prod(place.shape) * place.dtype.itemsize for place in self.tensors.values())


def make(
    found: Stored,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: Dtype,
    shard_bytes: int | None,
    original: Mapping[str, Any] | None,
) -> Export:
    """The layout; `original` is the config.json that came in, when the model is still that."""
    if dtype == "source" and found.folder is None:
        raise UserError(
            "--dtype=source is for a model folder, which came from somewhere. A run has --dtype=float32."
        )
    whole = dtype == "source" and original is not None and shard_bytes is None
    if whole and found.folder is not None and found.folder.origin["kind"] == "safetensors":
        return _as_it_came(found, shapes)
    shapes = dict(shapes) | {name: array.shape for name, array in families.constants(found.config).items()}
    came = _stored_dtypes(found, shapes) if dtype == "source" else {}
    return sharded(shapes, {name: came.get(name) or _DTYPES[dtype] for name in shapes}, shard_bytes)


def sharded(
    shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype], shard_bytes: int | None = None
) -> Export:
    """Tensors in this order, one file filled after the other."""
    shards: list[dict[str, Place]] = [{}]
    filled, limit = 0, shard_bytes or SHARD_BYTES
    for name, shape in shapes.items():
        size = math.prod(shape) * dtypes[name].itemsize
        if shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = Place(shape, dtypes[name], "")
        filled += size
    tensors = {
        name: dataclasses.replace(place, file=_file(i, len(shards)))
        for i, shard in enumerate(shards)
        for name, place in shard.items()
    }
    return Export(tensors, {name: name for name in shapes}, {}, False)


def index(layout: Export, came: bytes | None) -> bytes:
    """model.safetensors.index.json; the one that came in where it still says the same."""
    weight_map = {name: place.file for name, place in sorted(layout.tensors.items())}
    if came is not None and json.loads(came).get("weight_map") == weight_map:
        return came
    count = sum(math.prod(place.shape) for place in layout.tensors.values())
    metadata = {"total_parameters": count, "total_size": layout.bytes}
    return (json.dumps({"metadata": metadata, "weight_map": weight_map}, indent=2) + "\n").encode()


class ExportedArrays(Mapping[str, np.ndarray]):
    """Every tensor of the table as an array over its place in its file; opened when asked for."""

    def __init__(self, folder: pathlib.Path, layout: Export):
        self._layout, self._files = layout, {}
        for file in layout.files:
            tensors = {name: (p.shape, p.dtype) for name, p in layout.tensors.items() if p.file == file}
            metadata = layout.metadata.get(file, {"format": "pt"})
            self._files[file] = safetensors_file.create(folder / file, tensors, metadata)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._array(self._layout.named[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.named)

    def __len__(self) -> int:
        return len(self._layout.named)

    def finish(self, found: Stored) -> None:
        """Writes what is in no table: constants of the family, or the buffers and copies that came in."""
        if not self._layout.unchanged or found.folder is None:
            for name, array in families.constants(found.config).items():
                self[name][...] = array
            return
        for copy, original in found.folder.origin["copies"].items():
            self._array(copy)[...] = self[original]
        for name, entry in _buffers(found).items():
            self._array(name)[...] = entry.read(())

    def _array(self, name: str) -> np.ndarray:
        return self._files[self._layout.tensors[name].file].array(name)


def _as_it_came(found: Stored, shapes: Mapping[str, tuple[int, ...]]) -> Export:
    assert found.folder is not None
    origin, family = found.folder.origin, families.of_config(found.config)
    buffers, copies = _buffers(found), origin["copies"]
    stored = {
        family.current_name(name): name for name in origin["tensors"] if name not in {*copies, *buffers}
    }
    originals = {
        copy: original for copy, original in family.TIED.items() if copy in stored and original not in stored
    }
    stored |= {
        original: stored[copy] for copy, original in originals.items()
    }  # of a file that has the copy only
    named = {name: stored[family.current_name(name)] for name in shapes}
    back = {stored_name: name for name, stored_name in named.items()}
    present = {family.current_name(name): name for name in shapes}
    tensors = {}
    for name, (kind, file) in origin["tensors"].items():
        if name in buffers:
            tensors[name] = Place(buffers[name].shape, buffers[name].dtype, file)
        else:
            shape = shapes[present[copies[name]] if name in copies else back[name]]
            tensors[name] = Place(shape, _DTYPES[kind], file)
    named |= {copies[copy]: named[present[copies[copy]]] for copy in copies}
    return Export(tensors, named, origin["metadata"], True)


def _buffers(found: Stored) -> dict[str, Entry]:
    assert found.folder is not None
    path = found.folder.origin_files / model_folder.BUFFERS
    return safetensors_file.entries(path) if path.is_file() else {}


def _stored_dtypes(found: Stored, shapes: Mapping[str, Any]) -> dict[str, np.dtype]:
    """What each tensor came as; float32 where that has no name here (quantised, or not there)."""
    assert found.folder is not None
    family = families.of_config(found.config)
    came = {family.current_name(name): kind for name, (kind, _) in found.folder.origin["tensors"].items()}
    return {
        name: _DTYPES.get(came.get(family.current_name(name)) or "", _DTYPES["float32"]) for name in shapes
    }


def _file(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"
