"""Shardings of a training state. In: abstract arrays and logical axes. Out: NamedShardings.

Nothing here needs an array: shapes first, then shardings, then `jit(init, out_shardings=...)`, so that no
array ever lives unsharded. An array of the optimizer state belongs to the parameter whose path ends its own
path; it has the parameter's rank, with size 1 where a moment was averaged, and takes the parameter's
sharding.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxlm.partition import rules as table
from jaxlm.partition.mesh import BATCH_AXES
from jaxlm.partition.rules import Axes, Placement, Rules

Path = tuple[str, ...]
Mesh = jax.sharding.Mesh


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the axes of the batch; for every field of a Batch."""
    return NamedSharding(mesh, PartitionSpec(tuple(name for name in BATCH_AXES if name in mesh.shape)))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device; for scalars and keys."""
    return NamedSharding(mesh, PartitionSpec())


def shardings(abstract: Any, axes: Any, mesh: Mesh, rules: Rules = table.RULES) -> Any:
    """A NamedSharding for every array of `abstract`: parameters, optimizer state, averages or all.

    `axes` is the tree of logical axes of the parameters. Arrays that belong to no parameter are replicated.
    """
    placed = iter(_placements(abstract, axes, mesh, rules))
    return jax.tree.map(lambda _: NamedSharding(mesh, next(placed)[2].spec), abstract)


def owners(abstract: Any, axes: Any) -> list[Path]:
    """The path of the parameter that each array of `abstract` belongs to, in the order of its leaves; (): to none."""
    known = _by_path(axes)
    paths = [_names(path) for path, _ in jax.tree_util.tree_flatten_with_path(abstract)[0]]
    return [path[start:] if (start := _owner_at(path, known)) is not None else () for path in paths]


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """`abstract` with the shardings attached: what `jit(...).lower` and a checkpoint restore take."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)


@dataclasses.dataclass(frozen=True)
class Unsharded:
    """An array that is held in larger pieces than the rules ask for."""

    path: str
    shape: tuple[int, ...]
    bytes: int  # on every device
    reason: str


def unsharded(
    abstract: Any,
    axes: Any,
    mesh: Mesh,
    rules: Rules = table.RULES,
    *,
    at_least: int = 1 << 20,
) -> list[Unsharded]:
    """Arrays of at least `at_least` bytes per device that a rule would split further, largest first.

    Also those that no rule splits at all although the mesh has an axis that splits other arrays.
    """
    known = {axis for own in jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple)) for axis in own}
    splits = any(mesh.shape.get(name, 1) > 1 for axis in known for name in table.targets(axis, rules))
    found = []
    for path, x, placement in _placements(abstract, axes, mesh, rules):
        held = _bytes_held(x, placement, mesh)
        reason = "; ".join(str(w) for w in placement.whole)
        if not reason and splits and held == _bytes(x):
            reason = "no rule splits it on this mesh"
        if reason and held >= at_least:
            found.append(Unsharded("/".join(path), tuple(x.shape), held, reason))
    return sorted(found, key=lambda u: -u.bytes)


def report(
    abstract: Any,
    axes: Any,
    mesh: Mesh,
    rules: Rules = table.RULES,
    *,
    at_least: int = 1 << 20,
) -> str:
    """Text: bytes in all and per device, then a table of what stayed unsharded (see `unsharded`)."""
    placed = list(_placements(abstract, axes, mesh, rules))
    total = sum(_bytes(x) for _, x, _ in placed)
    held = sum(_bytes_held(x, p, mesh) for _, x, p in placed)
    lines = [f"{_mib(total)} MiB of arrays, {_mib(held)} MiB on every device"]
    found = unsharded(abstract, axes, mesh, rules, at_least=at_least)
    if found:
        lines.append("held in larger pieces than they could be:")
        width = max(len(u.path) for u in found)
        lines += [f"  {u.path:<{width}}  {_mib(u.bytes):>9} MiB  {u.shape}  {u.reason}" for u in found]
    return "\n".join(lines)


def _placements(abstract: Any, axes: Any, mesh: Mesh, rules: Rules) -> Iterator[tuple[Path, Any, Placement]]:
    by_path = _by_path(axes)
    for path, x in jax.tree_util.tree_flatten_with_path(abstract)[0]:
        names = _names(path)
        own = _axes_of(names, x, by_path)
        try:
            placement = table.place(own, tuple(x.shape), mesh, rules)
        except ValueError as error:
            raise type(error)(f"{'/'.join(names)}: {error}") from error
        yield names, x, placement


def _by_path(axes: Any) -> dict[Path, Axes]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(axes, is_leaf=lambda node: isinstance(node, tuple))
    return {_names(path): names for path, names in leaves}


def _owner_at(path: Path, by_path: Mapping[Path, Axes]) -> int | None:
    """Where in `path` the longest path of a parameter begins that ends it; None if there is none."""
    return next((start for start in range(len(path)) if path[start:] in by_path), None)


def _axes_of(path: Path, x: Any, by_path: Mapping[Path, Axes]) -> Axes:
    """The axes of the parameter that it belongs to; Nones if there is none."""
    start = _owner_at(path, by_path)
    if start is None:
        return (None,) * len(x.shape)
    # Foreign optimizers keep moments of another rank; those are replicated and show up in the report.
    axes = by_path[path[start:]]
    return axes if start == 0 or len(axes) == len(x.shape) else (None,) * len(x.shape)


def _names(path: tuple) -> Path:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _bytes(x: Any) -> int:
    return math.prod(x.shape) * jax.numpy.dtype(x.dtype).itemsize


def _bytes_held(x: Any, placement: Placement, mesh: Mesh) -> int:
    return math.prod(NamedSharding(mesh, placement.spec).shard_shape(tuple(x.shape))) * x.dtype.itemsize


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f}"
