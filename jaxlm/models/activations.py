"""Where activations live on a mesh: constraints at a few named points.

In: an array and one name per dimension ('batch', 'length', 'stream', 'heads', 'mlp', 'vocab', 'experts' or None). Out:
the same array, constrained under `jax.set_mesh`. Guaranteed: the identity without a mesh, for mesh axes that the
mesh lacks or that are not Auto (inside `jax.shard_map`), and for dimensions that the mesh axes do not
divide; of these only 'length' is split all the same, the last device's share then being padded.

'stream' are the places of a row between blocks, where nothing mixes them (norms, dropout, what the backward pass
keeps): devices that share heads and MLP share these, too (Korthikanti et al., 2205.05198, section 4.2).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

MESH_AXES = {
    "batch": ("data", "fsdp", "expert", "stage"),
    "length": ("context",),
    "stream": ("context", "tensor"),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    "experts": ("expert",),
    None: (),
}


def device_kind() -> str:
    """Of the mesh that is set (it may be a described one), else of the default backend."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.device_kind if device is not None else jax.devices()[0].device_kind


def automatic(mesh: AbstractMesh) -> set[str]:
    """The axes whose work the partitioner divides."""
    return {a for a, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Auto}


def spec(mesh: AbstractMesh, shape: tuple[int, ...], names: tuple[str | None, ...]) -> PartitionSpec:
    """The partition of an activation of this shape over what `mesh` has."""
    known, entries = automatic(mesh), []
    for size, name in zip(shape, names, strict=True):
        over, devices = _over(mesh, known, name)
        if name == "stream" and size % devices:
            name, (over, devices) = "length", _over(mesh, known, "length")
        fits = size % devices == 0 or (name == "length" and size > devices)
        entries.append(over if over and fits else None)
    return PartitionSpec(*entries)


def _over(mesh: AbstractMesh, known: set[str], name: str | None) -> tuple[tuple[str, ...], int]:
    axes = tuple(a for a in MESH_AXES[name] if a in known and mesh.shape[a] > 1)
    return axes, math.prod(mesh.shape[a] for a in axes)


def share(mesh: AbstractMesh, shape: tuple[int, ...], names: tuple[str | None, ...]) -> PartitionSpec:
    """`spec` for `jax.shard_map`, of what divides evenly. Axes of one device stand in front: over those without a name
    shard_map sums gradients, and a TPU's compiler keeps such a sum of one."""
    entries = spec(mesh, shape, names)
    even = [
        size % math.prod(mesh.shape[a] for a in axes(e)) == 0 for size, e in zip(shape, entries, strict=True)
    ]
    first, *rest = (entry if fits else None for entry, fits in zip(entries, even, strict=True))
    alone = tuple(axis for axis in mesh.axis_names if mesh.shape[axis] == 1)
    return PartitionSpec((*alone, *axes(first)) or None, *rest)


def on_shares(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """`jax.shard_map` over all axes of the mesh that is set but those over which it is mapped already."""
    axes = automatic(jax.sharding.get_abstract_mesh())
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, axis_names=axes, check_vma=False)


def axes(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Of an entry of a PartitionSpec."""
    return () if entry is None else (entry,) if isinstance(entry, str) else entry


def local(mesh: AbstractMesh, spec: PartitionSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one device's share."""
    over = [math.prod(mesh.shape[axis] for axis in axes(entry)) for entry in spec]
    return tuple(-(-size // devices) for size, devices in zip(shape, over, strict=True))


def devices(name: str) -> int:
    """How many devices share such a dimension, on the mesh that is set."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.prod(mesh.shape.get(axis, 1) for axis in MESH_AXES[name])


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Pin `x` to the mesh that is set; `names` has one entry per dimension."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or all(mesh.shape[axis] == 1 for axis in automatic(mesh)):
        return x
    return jax.lax.with_sharding_constraint(x, spec(mesh, x.shape, names))
