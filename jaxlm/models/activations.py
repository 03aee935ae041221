"""Where activations live on a mesh: constraints at a few named points.

In: an array and one name per dimension ('batch', 'length', 'stream', 'heads', 'mlp', 'vocab' or None). Out: the same
array, constrained under `jax.set_mesh`. Guaranteed: the identity without a mesh, for mesh axes that the
mesh lacks or that are not Auto (inside `jax.shard_map`), and for dimensions that the mesh axes do not
divide; of these only 'length' is split all the same, the last device's share then being padded.

'stream' are the places of a row between blocks, where nothing mixes them (norms, dropout, what the backward pass
keeps): devices that share heads and MLP share these, too (Korthikanti et al., 2205.05198, section 4.2).
"""

import math

import jax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

MESH_AXES = {
    "batch": ("data", "fsdp"),
    "length": ("context",),
    "stream": ("context", "tensor"),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    None: (),
}


def spec(mesh: AbstractMesh, shape: tuple[int, ...], names: tuple[str | None, ...]) -> PartitionSpec:
    """The partition of an activation of this shape over what `mesh` has."""
    automatic = _automatic(mesh)
    entries = []
    for size, name in zip(shape, names, strict=True):
        axes, devices = _over(mesh, automatic, name)
        if name == "stream" and size % devices:
            name, (axes, devices) = "length", _over(mesh, automatic, "length")
        fits = size % devices == 0 or (name == "length" and size > devices)
        entries.append(axes if axes and fits else None)
    return PartitionSpec(*entries)


def _automatic(mesh: AbstractMesh) -> set[str]:
    """The axes over which the partitioner may split."""
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return {axis for axis, kind in kinds if kind == AxisType.Auto and mesh.shape[axis] > 1}


def _over(mesh: AbstractMesh, automatic: set[str], name: str | None) -> tuple[tuple[str, ...], int]:
    axes = tuple(a for a in MESH_AXES[name] if a in automatic)
    return axes, math.prod(mesh.shape[a] for a in axes)


def share(mesh: AbstractMesh, shape: tuple[int, ...], names: tuple[str | None, ...]) -> PartitionSpec:
    """`spec` for `jax.shard_map`, with the axes of one device in front: over axes that it does not find there it sums
    gradients, and a TPU's compiler keeps such a sum of one."""
    first, *rest = spec(mesh, shape, names)
    alone = tuple(axis for axis in mesh.axis_names if mesh.shape[axis] == 1)
    return PartitionSpec((*alone, *(first or ())) or None, *rest)


def devices(name: str) -> int:
    """How many devices share such a dimension, on the mesh that is set."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.prod(mesh.shape.get(axis, 1) for axis in MESH_AXES[name])


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Pin `x` to the mesh that is set; `names` has one entry per dimension."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not _automatic(mesh):
        return x
    return jax.lax.with_sharding_constraint(x, spec(mesh, x.shape, names))
