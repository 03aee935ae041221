"""Compressed weights of a model folder. In: what its checkpoint holds, with the forms of its model.json. Out: the same
under the model's own paths, as plain arrays or as values.

Guaranteed: codes and scales are read as they were written, whatever dtype the rest is read in; on a mesh each part lies
as its weight would, where its shape can be shared so.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from jaxlm.models.forms import Form, parts_of

FLOAT32 = np.dtype(np.float32)


@dataclasses.dataclass(frozen=True)
class Held:
    """Arrays of a checkpoint, by path, and how they are read."""

    shapes: Mapping[str, Any]
    place: Callable[..., dict[str, jax.Array]]
    forms: Mapping[str, Form]

    @property
    def whole_shapes(self) -> dict[str, Any]:
        """Of the arrays that the model has."""
        parts = {part for path in self.forms for part in parts_of(path, self.shapes).values()}
        own = {path: shape for path, shape in self.shapes.items() if path not in parts}
        return own | {path: jax.eval_shape(lambda v: v.full(), one) for path, one in self.abstract.items()}

    @property
    def abstract(self) -> dict[str, Any]:
        """Compressed weights as values whose arrays are shapes with dtypes."""
        return {path: self._value(path, self.shapes) for path in self.forms}

    def whole(self, wanted: Mapping[str, Sharding], dtype: np.dtype = FLOAT32) -> dict[str, jax.Array]:
        """Compressed weights as the arrays that they stand for."""
        found = self.values(wanted, dtype)
        for path in self.forms:
            if path in found:
                full = jax.jit(lambda value: value.full().astype(dtype), out_shardings=wanted[path])
                found[path] = full(found[path])
        return found

    def values(self, wanted: Mapping[str, Sharding], dtype: np.dtype = FLOAT32) -> dict[str, Any]:
        """Compressed weights as values."""
        places = {path: where for path, where in wanted.items() if path not in self.forms}
        found = self.place(places, dtype) if places else {}
        for path in wanted.keys() & self.forms.keys():
            parts = parts_of(path, self.shapes)
            where = {part: _within(wanted[path], self.shapes[part].shape) for part in parts.values()}
            found[path] = self._value(path, self.place(where, FLOAT32))
        return found

    def _value(self, path: str, arrays: Mapping[str, Any]) -> Any:
        parts = {name: arrays[part] for name, part in parts_of(path, self.shapes).items()}
        return (
            jax.eval_shape(self.forms[path].value, parts)
            if _abstract(parts)
            else self.forms[path].value(parts)
        )


def _abstract(parts: Mapping[str, Any]) -> bool:
    return any(isinstance(part, jax.ShapeDtypeStruct) for part in parts.values())


def _within(weight: Sharding, shape: tuple[int, ...]) -> Sharding:
    """Of a part: as its weight, along the dimensions that can be shared as its are."""
    if not isinstance(weight, NamedSharding):
        return weight
    spec = [*weight.spec, *(None,) * len(shape)][: len(shape)]
    sizes = [_devices(weight, entry) for entry in spec]
    kept = [
        entry if size % count == 0 else None for entry, size, count in zip(spec, shape, sizes, strict=True)
    ]
    return NamedSharding(weight.mesh, PartitionSpec(*kept))


def _devices(weight: NamedSharding, entry: Any) -> int:
    names = entry if isinstance(entry, tuple) else () if entry is None else (entry,)
    return int(np.prod([weight.mesh.shape[name] for name in names], dtype=int))
