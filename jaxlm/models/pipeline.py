"""A stack of blocks over stages: a device has some of the layers, parts of the batch follow each other through them.

In: what runs the layers of one stage, blocks and keys with L in front, x_BTD, and rows with B in front or `Shared`.
Out: x_BTD and `Extras`, as from one device. Guaranteed: outside, rows are split over the stages too, so that
embeddings, heads and losses are nobody's work twice; a device holds its own layers and its own share of x.

The schedule is GPipe's (1811.06965): M parts (micro-batches) need M + S - 1 rounds, in which S - 1 times a stage has
nothing to do. That share, the bubble, is (S - 1) / (M + S - 1). What enters and leaves lies spread over the stages and
moves on by one part a round, so that no device has all of it.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxlm.errors import UserError
from jaxlm.models.activations import MESH_AXES, automatic
from jaxlm.models.encoded import Extras

# Parts for each stage at most: more shrink the bubble (here a ninth), and the matrix products, too.
_PARTS = 8
STAGE = "stage"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shared:
    """Among the rows that blocks get: what is the same for all of them, and has no B."""

    value: Any


def stages() -> int:
    """How many the mesh that is set has."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[STAGE] if STAGE in automatic(mesh) else 1


def parts(rows: int) -> int:
    """Micro-batches for each stage; `rows` of a batch that one device has."""
    return next(number for number in range(min(rows, _PARTS), 0, -1) if rows % number == 0)


def bubble(rows: int, stages: int) -> float:
    """The share of its time that a stage has nothing to do; `rows` of a batch that one device has."""
    return (stages - 1) / (parts(rows) * stages + stages - 1)


def check(layers: int, stages: int, period: int) -> None:
    """UserError unless every stage can have as many layers, of the same kinds in the same order."""
    if layers % (stages * period):
        turns = f", whose {period} kinds take turns" if period > 1 else ""
        allowed = [n for n in range(1, layers + 1) if layers % (n * period) == 0]
        raise UserError(
            f"config.mesh.stage={stages}: {layers} layers{turns} do not divide over the stages. Allowed is one of "
            f"{', '.join(map(str, allowed)) or 1}."
        )


def check_shared() -> None:
    """UserError where layers of one weight would lie on several stages."""
    if stages() > 1:
        raise UserError(
            f"config.mesh.stage={stages()}: all layers of this model have the same weights, so that every stage would "
            "hold all of them. Fix: --config.mesh.stage=1, and those devices in data, fsdp or tensor."
        )


def run(
    of_stage: Callable[..., tuple[jax.Array, Extras]],
    blocks: Any,
    keys_L: jax.Array | None,
    x_BTD: jax.Array,
    rows: Any,
) -> tuple[jax.Array, Extras]:
    """`of_stage(blocks, keys, x_BTD, rows) -> x_BTD, Extras` of the layers that blocks and keys have.

    Dropout draws for each micro-batch by itself: other bits than without stages.
    """
    mesh, number = jax.sharding.get_abstract_mesh(), stages()
    batch = tuple(axis for axis in MESH_AXES["batch"] if axis != STAGE and mesh.shape.get(axis, 1) > 1)
    groups = math.prod(mesh.shape[axis] for axis in batch)
    count = parts(len(x_BTD) // (groups * number))
    whole = PartitionSpec(None, batch or None)
    place = lambda a, spec: jax.lax.with_sharding_constraint(_as_parts(a, groups, number, count), spec)
    x_MBTD = place(x_BTD, PartitionSpec(STAGE, batch or None))
    rows_M = _each(lambda a: place(a, whole), rows)
    split = PartitionSpec(STAGE)
    through = jax.shard_map(
        lambda *local: _through(of_stage, number, *local),
        in_specs=(split, split, split, split, PartitionSpec()),
        out_specs=(split, split),
        axis_names={STAGE},
        check_vma=False,
    )
    x_MBTD, extras = through(jnp.arange(number), blocks, keys_L, x_MBTD, rows_M)
    return _as_rows(x_MBTD, groups, number, count), extras


def _each(function: Callable[[jax.Array], jax.Array], rows: Any) -> Any:
    """Of what has rows."""
    is_shared = lambda leaf: isinstance(leaf, Shared)
    return jax.tree.map(lambda leaf: leaf if is_shared(leaf) else function(leaf), rows, is_leaf=is_shared)


def _as_parts(a_B: jax.Array, groups: int, stages: int, count: int) -> jax.Array:
    """[B, ...] -> [M, B / M, ...]: rows lie group by group, within these stage by stage, and stay where they are."""
    cut = a_B.reshape(groups, stages, count, -1, *a_B.shape[1:])
    return jnp.moveaxis(cut, 0, 2).reshape(stages * count, -1, *a_B.shape[1:])


def _as_rows(a_MB: jax.Array, groups: int, stages: int, count: int) -> jax.Array:
    """The way back."""
    cut = a_MB.reshape(stages, count, groups, -1, *a_MB.shape[2:])
    return jnp.moveaxis(cut, 2, 0).reshape(-1, *a_MB.shape[2:])


def _through(
    of_stage: Callable[..., tuple[jax.Array, Extras]],
    stages: int,
    stage_1: jax.Array,
    blocks: Any,
    keys_L: jax.Array | None,
    waiting: jax.Array,
    rows_M: Any,
) -> tuple[jax.Array, Extras]:
    """On one stage: `waiting` [M / S, B, T, D] are first the parts that come in through it, at last those that left."""
    stage, count = stage_1[0], len(waiting)
    ahead = [(at, at + 1) for at in range(stages - 1)]
    back = [(to, at) for at, to in ahead]

    def one(carry: tuple[jax.Array, jax.Array], round: jax.Array) -> tuple[Any, Extras]:
        x_BTD, waiting = carry
        slot, part = round % count, round - stage
        x_BTD = jnp.where(stage == 0, waiting[slot], x_BTD)
        working = (part >= 0) & (part < count * stages)
        part = jnp.clip(part, 0, count * stages - 1)
        keys = None if keys_L is None else jax.vmap(lambda key: jax.random.fold_in(key, part))(keys_L)
        x_BTD, extras = of_stage(blocks, keys, x_BTD, _each(lambda a: a[part], rows_M))
        if extras.values is not None:
            raise UserError("config.mesh.stage: blocks that return values of every row need one stage.")
        # Column by column what waits moves on to the stage before; behind it comes what leaves the last.
        moved = jax.lax.ppermute(waiting[slot], STAGE, back)
        waiting = waiting.at[slot].set(jnp.where(stage == stages - 1, x_BTD, moved))
        extras = jax.tree.map(lambda a: jnp.where(working, a, 0), extras)
        return (jax.lax.ppermute(x_BTD, STAGE, ahead), waiting), extras

    rounds = jnp.arange(count * stages + stages - 1)
    (_, left), extras = jax.lax.scan(one, (jnp.zeros_like(waiting[0]), waiting), rounds)
    return jnp.roll(left, -(stages - 1), axis=0), jax.tree.map(lambda a: a.sum(axis=0), extras)
