"""Where activations live on a mesh: constraints at a few named points.

In: an array and one name per dimension ('batch', 'length', 'heads', 'mlp', 'vocab', 'experts' or None). Out: the same
array, constrained under `jax.set_mesh`. Guaranteed: the identity without a mesh, for mesh axes that the
mesh lacks or that are not Auto (inside `jax.shard_map`), and for dimensions that the mesh axes do not
divide.
"""

import math

import jax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

MESH_AXES = {
    "batch": ("data", "fsdp", "expert"),
    "length": ("context",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    "experts": ("expert",),
    None: (),
}


def automatic(mesh: AbstractMesh) -> set[str]:
    """The axes whose work the partitioner divides."""
    return {a for a, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Auto}


def spec(mesh: AbstractMesh, shape: tuple[int, ...], names: tuple[str | None, ...]) -> PartitionSpec:
    """The partition of an activation of this shape over what `mesh` has."""
    known, entries = automatic(mesh), []
    for size, name in zip(shape, names, strict=True):
        axes = tuple(a for a in MESH_AXES[name] if a in known and mesh.shape[a] > 1)
        fits = size % math.prod(mesh.shape[a] for a in axes) == 0
        entries.append(axes if axes and fits else None)
    return PartitionSpec(*entries)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Pin `x` to the mesh that is set; `names` has one entry per dimension."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    partition = spec(mesh, x.shape, names)
    if all(entry is None for entry in partition):
        return x
    return jax.lax.with_sharding_constraint(x, partition)
