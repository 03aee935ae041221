"""The table logical axis -> mesh axes. In: logical axes and shape of an array. Out: its PartitionSpec.

Guarantees: an unknown axis raises; two axes of one array on the same mesh axis raise, whatever the mesh's
size; a dimension that a mesh axis does not divide stays whole and is listed in `Placement.whole`.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
from jax.sharding import PartitionSpec

from jaxlm.errors import UserError, did_you_mean

Axes = tuple[str | None, ...]
MeshAxes = str | tuple[str, ...] | None
Rules = Mapping[str, MeshAxes]
Mesh = jax.sharding.Mesh | jax.sharding.AbstractMesh

# 'embed' lies on fsdp in every weight, so that each weight is split once over fsdp and once over tensor.
RULES: Rules = {
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "experts": "expert",
    "layers": "stage",
    "rank": None,
    "unit": None,
    "positions": None,
    "types": None,
    "buckets": None,
}


def of_weights(fsdp_splits: str) -> Rules:
    """Of the weights themselves, which fsdp need not split; `RULES` are those of moments and gradients."""
    return RULES if fsdp_splits == "weights" else {**RULES, "embed": None}


@dataclasses.dataclass(frozen=True)
class Whole:
    """A dimension that stayed whole on every device although a rule maps it to mesh axes."""

    axis: str
    size: int
    mesh_axes: tuple[str, ...]
    devices: int

    def __str__(self) -> str:
        """The reason, for a report."""
        return f"{self.axis} {self.size} is not divisible by {'*'.join(self.mesh_axes)} {self.devices}"


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where an array lives, and which of its dimensions could not be split."""

    spec: PartitionSpec
    whole: tuple[Whole, ...]


def place(axes: Axes, shape: tuple[int, ...], mesh: Mesh, rules: Rules = RULES) -> Placement:
    """The placement of an array; mesh axes that `mesh` lacks count as size 1."""
    if len(axes) != len(shape):
        raise ValueError(f"axes {axes} do not fit shape {shape}: one name per dimension is needed.")
    wanted_by = [targets(axis, rules) for axis in axes]
    _check_distinct(axes, wanted_by)
    entries: list[MeshAxes] = []
    whole = []
    for axis, size, wanted in zip(axes, shape, wanted_by, strict=True):
        present = tuple(name for name in wanted if name in mesh.shape)
        devices = math.prod(mesh.shape[name] for name in present)
        # A moment averaged over an axis has size 1 there: nothing to split, nothing to report.
        if size % devices == 0 and size > 1 and present:
            entries.append(present[0] if len(present) == 1 else present)
        else:
            entries.append(None)
            if size > 1 and devices > 1:
                whole.append(Whole(str(axis), size, present, devices))
    return Placement(PartitionSpec(*entries), tuple(whole))


def spec(axes: Axes, shape: tuple[int, ...], mesh: Mesh, rules: Rules = RULES) -> PartitionSpec:
    """The PartitionSpec of an array, with one entry per dimension."""
    return place(axes, shape, mesh, rules).spec


def targets(axis: str | None, rules: Rules) -> tuple[str, ...]:
    """The mesh axes of a logical axis. UserError for one without a rule."""
    if axis is None:
        return ()
    if axis not in rules:
        known = ", ".join(rules)
        raise UserError(
            f'logical axis "{axis}" has no rule.{did_you_mean(axis, rules)} Known: {known}. '
            "Rename it, or add it to jaxlm/partition/rules.py."
        )
    target = rules[axis]
    return () if target is None else (target,) if isinstance(target, str) else tuple(target)


def _check_distinct(axes: Axes, targets: list[tuple[str, ...]]) -> None:
    taken: dict[str, str | None] = {}
    for axis, wanted in zip(axes, targets, strict=True):
        for name in wanted:
            if name in taken:
                raise UserError(
                    f'axes {axes}: "{taken[name]}" and "{axis}" both lie on the mesh axis "{name}". '
                    "One of them must be another axis, or None (not split)."
                )
            taken[name] = axis
