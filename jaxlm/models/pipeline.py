"""A stack of blocks over stages: a device has some of the layers, parts of the batch follow each other through them.

In: what runs some layers, blocks and keys with L in front, x_BTD, and rows with B in front or `Shared`.
Out: x_BTD and `Extras`, as from one device. Guaranteed: outside, rows are split over the stages too, so that
embeddings, heads and losses are nobody's work twice; a device holds its own layers and its own share of x.

The schedule is that of GPipe (1811.06965), or, where parts (micro-batches) go round the S stages R times, the circular
one (interleaved stages: 2104.04473, section 2.2). Layers are cut into R S groups; group g is computed by stage g % S. S
parts at a time follow each other through all R rounds of the ring before the next S enter. M parts need R M + S - 1
steps, in which S - 1 times a stage has nothing to do: the bubble is (S - 1) / (R M + S - 1). What enters and leaves
lies spread over the stages and moves on by one part when one enters, so that no device has all of it.

A state holds layers in their order, a stage R neighbouring groups, whatever R is: checkpoints and other meshes know of
none of this. A pass begins by trading them (`_traded`), its gradient ends by trading back.
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


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which part is where at which step: as many as there are stages go round so often, then the next."""

    stages: int
    repeats: int  # rounds
    each: int  # parts that come in through each stage

    @classmethod
    def of(cls, rows: int, stages: int, repeats: int = 1) -> "Schedule":
        """`rows` of a batch that one device has."""
        return cls(stages, repeats if stages > 1 else 1, parts(rows))

    def at(self, step: Any) -> tuple[Any, Any]:
        """(part, round) of the first stage; stage s is s steps behind."""
        turn, within = step // self.stages, step % self.stages
        return turn // self.repeats * self.stages + within, turn % self.repeats

    @property
    def work(self) -> int:
        """Steps in which a stage has something to do."""
        return self.repeats * self.each * self.stages

    @property
    def steps(self) -> int:
        """Until the last part has left."""
        return self.work + self.stages - 1

    @property
    def bubble(self) -> float:
        """The share of its time that a stage has nothing to do."""
        return 1 - self.work / self.steps


def check(layers: int, stages: int, period: int, repeats: int = 1) -> None:
    """UserError unless every stage can have as many layers, of the same kinds in the same order, in every group."""
    turns = f", whose {period} kinds take turns," if period > 1 else ""
    divide = lambda number: number > 0 and layers % (number * period) == 0
    allowed = lambda unit: ", ".join(str(n) for n in range(1, layers + 1) if divide(n * unit)) or "1"
    if not divide(stages):
        raise UserError(
            f"config.mesh.stage={stages}: {layers} layers{turns} do not divide over the stages. Allowed is one of "
            f"{allowed(1)}."
        )
    if not divide(stages * repeats):
        raise UserError(
            f"config.model.stage_repeats={repeats}: {layers} layers{turns} do not divide into so many groups for each "
            f"of config.mesh.stage={stages} stages. Allowed is one of {allowed(stages)}."
        )


def check_shared() -> None:
    """UserError where layers of one weight would lie on several stages."""
    if stages() > 1:
        raise UserError(
            f"config.mesh.stage={stages()}: all layers of this model have the same weights, so that every stage would "
            "hold all of them. Fix: --config.mesh.stage=1, and those devices in data, fsdp or tensor."
        )


def run(
    of_group: Callable[..., tuple[jax.Array, Extras]],
    blocks: Any,
    keys_L: jax.Array | None,
    x_BTD: jax.Array,
    rows: Any,
    *,
    repeats: int = 1,
    kept: Callable[..., Any] | None = jax.checkpoint_policies.everything_saveable,
) -> tuple[jax.Array, Extras]:
    """`of_group(blocks, keys, x_BTD, rows) -> x_BTD, Extras` of the layers that blocks and keys have.

    `kept`: what the backward pass finds of a group's work, a policy of `jax.checkpoint`. Dropout draws for each
    micro-batch by itself: other bits than without stages, the same whatever `repeats` is.
    """
    mesh, number = jax.sharding.get_abstract_mesh(), stages()
    batch = tuple(axis for axis in MESH_AXES["batch"] if axis != STAGE and mesh.shape.get(axis, 1) > 1)
    groups = math.prod(mesh.shape[axis] for axis in batch)
    schedule = Schedule.of(len(x_BTD) // (groups * number), number, repeats)
    count = schedule.each
    whole = PartitionSpec(None, batch or None)
    place = lambda a, spec: jax.lax.with_sharding_constraint(_as_parts(a, groups, number, count), spec)
    x_MBTD = place(x_BTD, PartitionSpec(STAGE, batch or None))
    rows_M = _each(lambda a: place(a, whole), rows)
    split, by_round = PartitionSpec(STAGE), PartitionSpec(None, STAGE)
    through = jax.shard_map(
        lambda *local: _through(schedule, of_group, kept, *local),
        in_specs=(split, split, PartitionSpec(), split, PartitionSpec()),
        out_specs=(split, by_round),
        axis_names={STAGE},
        check_vma=False,
    )
    x_MBTD, extras_R = through(jnp.arange(number), blocks, keys_L, x_MBTD, rows_M)
    extras = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), extras_R)
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
    schedule: Schedule,
    of_group: Callable[..., tuple[jax.Array, Extras]],
    kept: Callable[..., Any] | None,
    stage_1: jax.Array,
    blocks: Any,
    keys_L: jax.Array | None,
    waiting: jax.Array,
    rows_M: Any,
) -> tuple[jax.Array, Extras]:
    """On one stage: `waiting` [M / S, B, T, D] are first the parts that come in through it, at last those that left."""
    stage, count, stages, repeats = stage_1[0], schedule.each, schedule.stages, schedule.repeats
    ring = [(at, (at + 1) % stages) for at in range(stages)]
    ahead, back = ring[: stages - (repeats == 1)], [(to, at) for at, to in ring[:-1]]
    blocks_R = jax.tree.map(lambda a: _traded(a, stage, schedule), blocks)
    keys_RS = None if keys_L is None else keys_L.reshape(repeats, stages, -1)

    def work(blocks_R: Any, x_BTD: jax.Array, part: jax.Array, round: jax.Array) -> tuple[jax.Array, Extras]:
        own = (lambda a: a[round]) if repeats > 1 else (lambda a: a[0])
        keys = (
            None if keys_RS is None else jax.vmap(lambda k: jax.random.fold_in(k, part))(own(keys_RS)[stage])
        )
        return of_group(jax.tree.map(own, blocks_R), keys, x_BTD, _each(lambda a: a[part], rows_M))

    work = jax.checkpoint(work, policy=kept, prevent_cse=False)  # within a loop nothing merges the two

    def one(carry: tuple[jax.Array, jax.Array], step: jax.Array) -> tuple[Any, Extras]:
        x_BTD, waiting = carry
        entering, first = schedule.at(step)
        slot, enters = entering % count, first == 0
        part, round = schedule.at(jnp.clip(step - stage, 0, schedule.work - 1))
        works = (step >= stage) & (step - stage < schedule.work)
        x_BTD, extras = work(blocks_R, jnp.where((stage == 0) & enters, waiting[slot], x_BTD), part, round)
        if extras.values is not None:
            raise UserError("config.mesh.stage: blocks that return values of every row need one stage.")
        # Column by column what waits moves on to the stage before; behind it comes what leaves the last.
        moved = jax.lax.ppermute(waiting[slot], STAGE, back)
        waiting = waiting.at[slot].set(jnp.where(enters, moved, waiting[slot]))
        free, leaves = (part + stages - 1) % count, works & (stage == stages - 1) & (round == repeats - 1)
        waiting = waiting.at[free].set(jnp.where(leaves, x_BTD, waiting[free]))
        of_round = lambda a: jnp.zeros((repeats, *a.shape), a.dtype).at[round].set(jnp.where(works, a, 0))
        return (jax.lax.ppermute(x_BTD, STAGE, ahead), waiting), jax.tree.map(of_round, extras)

    start = (jnp.zeros_like(waiting[0]), waiting)
    (_, left), extras = jax.lax.scan(one, start, jnp.arange(schedule.steps))
    return jnp.roll(left, -(stages - 1), axis=0), jax.tree.map(lambda a: a.sum(axis=0), extras)


def _traded(a_L: jax.Array, stage: jax.Array, schedule: Schedule) -> jax.Array:
    """[L / S, ...], the layers that a stage holds -> [R, L / (R S), ...], the groups that it computes.

    R turns, in each of which a stage sends one group and gets one; what it holds already stays.
    """
    own_R = a_L.reshape(schedule.repeats, -1, *a_L.shape[1:])
    if schedule.repeats == 1:
        return own_R
    got_R = jnp.zeros_like(own_R)
    for sends, to, places in turns(schedule.stages, schedule.repeats):
        group = jax.lax.ppermute(own_R[jnp.asarray(sends)[stage]], STAGE, list(enumerate(to)))
        got_R = got_R.at[jnp.asarray(places)[stage]].set(group)
    return got_R


def turns(stages: int, repeats: int) -> list[tuple[list[int], list[int], list[int]]]:
    """Of every turn of the trade, by stage: which of its groups it sends, to whom, and where it puts what it gets.

    Group g is held by stage g // R and computed by g % S. In each turn the senders are all different, as they send one
    group each, and so are the receivers: those whose groups have the same g % R hold them S / gcd(R, S) stages apart.
    """
    apart, made = stages // math.gcd(stages, repeats), []
    for turn in range(repeats):
        sends = [(turn - stage // apart) % repeats for stage in range(stages)]
        groups = [stage * repeats + own for stage, own in enumerate(sends)]
        places = {group % stages: group // stages for group in groups}
        made.append((sends, [group % stages for group in groups], [places[stage] for stage in range(stages)]))
    return made
