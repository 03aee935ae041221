"""Where activations live on a mesh: constraints at a few named points.

In: an array and one name per dimension ('batch', 'length', 'heads', 'mlp', 'vocab' or None). Out: the same
array, constrained under `jax.set_mesh`. Guaranteed: the identity without a mesh, for mesh axes that the
mesh lacks or that are not Auto (inside `jax.shard_map`), and for dimensions that the mesh axes do not
divide; of these only 'length' is split all the same, the last device's share then being padded.
"""

import math

import jax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

MESH_AXES = {
    "batch": ("data", "fsdp"),
    "length": ("context",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    None: (),
}


def spec(mesh: AbstractMesh, shape: tuple[int, ...], names: tuple[str | None, ...]) -> PartitionSpec:
    """The partition of an activation of this shape over what `mesh` has."""
    automatic = {a for a, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Auto}
    entries = []
    for size, name in zip(shape, names, strict=True):
        axes = tuple(a for a in MESH_AXES[name] if a in automatic and mesh.shape[a] > 1)
        devices = math.prod(mesh.shape[a] for a in axes)
        fits = size % devices == 0 or (name == "length" and size > devices)
        entries.append(axes if axes and fits else None)
    return PartitionSpec(*entries)


def devices(name: str) -> int:
    """How many devices share such a dimension, on the mesh that is set."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.prod(mesh.shape.get(axis, 1) for axis in MESH_AXES[name])


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Pin `x` to the mesh that is set; `names` has one entry per dimension."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    partition = spec(mesh, x.shape, names)
    if all(entry is None for entry in partition):
        return x
    return jax.lax.with_sharding_constraint(x, partition)
