"""What is compared of the features of a student and its teacher: states of layers, vectors of texts.

In: what both computed on the way (models/observed.py). Out: `Term`s of `Distil`. Tokens of padding count nothing, and
no item of a packed row is compared with another: packing changes nothing. A width that differs needs a learnt
projection, which is trained beside the student and is no part of what is exported.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Array, Batch, Pair
from jaxlm.errors import UserError
from jaxlm.models import parameters
from jaxlm.models.dense import dense
from jaxlm.models.heads import Head
from jaxlm.objectives import embeddings
from jaxlm.objectives.distil import Passes, Term
from jaxlm.objectives.objective import Objective

Layers = Literal[
    "last", "uniform"
]  # the last of both; student layer m with teacher layer m N / M, counted from 1


@dataclasses.dataclass(kw_only=True, frozen=True)
class Project(Head):
    """Dense without bias from the student's width to the teacher's."""

    training_alone: ClassVar[bool] = True

    width: int

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take features, the width last."""
        return _Project(config, rngs, self.width, dtype)


class _Project(nnx.Module):
    def __init__(self, c: Any, rngs: nnx.Rngs, width: int, dtype: jnp.dtype):
        self.dtype = dtype
        self.w = parameters.weight(rngs, (c.hidden, width), ("embed", None), c.hidden**-0.5)

    def __call__(self, x: Array) -> Array:
        return dense(x, self.w[...].astype(self.dtype))


@dataclasses.dataclass(kw_only=True)
class OfLayers(Term):
    """Terms that read layers weigh as much as there are tokens."""

    name: ClassVar[str]

    def check(self, objective: Objective, student: Any, teacher: Any, where: str) -> None:
        """An encoder-decoder has two stacks, and it is not said which."""
        for role, config in (("student", student), ("teacher", teacher)):
            if config.kind not in ("encoder", "decoder"):
                raise UserError(
                    f"{where}: {type(self).__name__} compares layers of an encoder or a decoder, and the {role} is a "
                    f"{type(config).__name__}. Fix: SoftTargets(...)."
                )

    def weights(self, objective: Objective, batch: Batch) -> dict[str, Array]:
        """Tokens that are not padding."""
        return {self.name: (batch.segments_BT > 0).sum().astype(jnp.float32)}


@dataclasses.dataclass(kw_only=True)
class Projected(OfLayers):
    """Terms over features."""

    teacher_width: int  # features of the student are projected to it; 0: both are as wide, nothing is between

    def heads(self, config: Any) -> Mapping[str, Head]:
        """The projection, if there is one."""
        return {f"to_teacher_{self.name}": Project(width=self.teacher_width)} if self.teacher_width else {}

    def check(self, objective: Objective, student: Any, teacher: Any, where: str) -> None:
        """UserError, too, for other widths."""
        super().check(objective, student, teacher, where)
        if (self.teacher_width or student.hidden) != teacher.hidden:
            raise UserError(
                f"{where}.teacher_width={self.teacher_width}: the student is {student.hidden} wide, its teacher "
                f"{teacher.hidden}. Fix: teacher_width={teacher.hidden if student.hidden != teacher.hidden else 0}."
            )

    def student(self, passes: Passes, x: Array) -> Array:
        """Features in the teacher's width."""
        return passes.student.heads[f"to_teacher_{self.name}"](x) if self.teacher_width else x


@dataclasses.dataclass(kw_only=True)
class HiddenStates(Projected):
    """Features of every token behind layers: DistilBERT (1910.01108) has 1 - cosine of the last; TinyBERT (1909.10351)
    the squared error of every layer and of the embeddings, through one projection."""

    name: ClassVar[str] = "states"
    reads: ClassVar[tuple[str, ...]] = ("states",)

    loss: Literal["cosine", "squares"]  # 1 - cosine; or the squared error, the mean over the width
    layers: Layers  # which, see `Layers`
    embeddings: bool  # whether what goes into the first layer is compared, too

    def check(self, objective: Objective, student: Any, teacher: Any, where: str) -> None:
        """UserError, too, for depths that do not divide."""
        super().check(objective, student, teacher, where)
        check_depths(self.layers, student.layers, teacher.layers, where)

    def compared(self, passes: Passes) -> dict[str, Pair]:
        """Term `states`: the sum over layers."""
        pairs = paired(self.layers, *passes.layers("states"))
        if self.embeddings:
            ours, theirs = ((passes.student, passes.key), (passes.teacher, None))
            pairs.append(tuple(model.embed(passes.batch, key) for model, key in (ours, theirs)))  # pyright: ignore[reportArgumentType]
        away_BT = sum(_away(self.loss, self.student(passes, x), y) for x, y in pairs)
        return {self.name: over_tokens(away_BT, passes.batch)}


@dataclasses.dataclass(kw_only=True)
class Vectors(Projected):
    """A vector of every item, read off the last layer: for students that learn embeddings (Reimers and Gurevych,
    2004.09813, have the squared error)."""

    name: ClassVar[str] = "vectors"
    reads: ClassVar[tuple[str, ...]] = ("states",)

    loss: Literal["cosine", "squares"]  # 1 - cosine; or the squared error, the mean over the width
    pooling: Literal["mean", "first"]  # of all tokens of an item, or its first

    def weights(self, objective: Objective, batch: Batch) -> dict[str, Array]:
        """Items: the segments of every row."""
        return {self.name: batch.segments_BT.max(axis=1).sum().astype(jnp.float32)}

    def compared(self, passes: Passes) -> dict[str, Pair]:
        """Term `vectors`."""
        segments_BT, first_BC = passes.batch.segments_BT, getattr(passes.batch.targets, "first_BC", None)
        if first_BC is None:
            raise UserError(
                "config.objective.terms: Vectors compares items, and this objective has none that are texts."
            )
        x_BTD, y_BTD = (states[-1] for states in passes.layers("states"))
        x_BCD, y_BCD = (self._pooled(x, segments_BT, first_BC) for x in (self.student(passes, x_BTD), y_BTD))
        real_BC = jnp.arange(1, first_BC.shape[1] + 1) <= segments_BT.max(axis=1)[:, None]
        away_BC = _away(self.loss, x_BCD, y_BCD)
        return {self.name: (jnp.where(real_BC, away_BC, 0.0).sum(), real_BC.sum().astype(jnp.float32))}

    def _pooled(self, x_BTD: Array, segments_BT: Array, first_BC: Array) -> Array:
        if self.pooling == "mean":
            return embeddings.mean(x_BTD, segments_BT, first_BC.shape[1])
        return jnp.take_along_axis(x_BTD, first_BC[..., None], axis=1, mode="clip")


def check_depths(layers: Layers, student: int, teacher: int, where: str) -> None:
    """UserError where layers cannot be mapped."""
    if layers == "uniform" and teacher % student:
        fits = ", ".join(str(n) for n in range(1, teacher + 1) if teacher % n == 0)
        raise UserError(
            f"{where}.layers='uniform': {teacher} layers of the teacher do not divide by the {student} of the student. "
            f"Fix: --config.model.layers=N, N one of {fits}, or layers='last'."
        )


def paired(layers: Layers, ours: Sequence[Array], theirs: Sequence[Array]) -> list[tuple[Array, Array]]:
    """(student's, teacher's) of every layer that is compared."""
    if layers == "last":
        return [(ours[-1], theirs[-1])]
    step = len(theirs) // len(ours)
    return [(ours[m], theirs[(m + 1) * step - 1]) for m in range(len(ours))]


def _away(loss: str, x: Array, y: Array) -> Array:
    """[...] of [..., D], float32."""
    x, y = x.astype(jnp.float32), jax.lax.stop_gradient(y).astype(jnp.float32)
    if loss == "squares":
        return jnp.square(x - y).mean(axis=-1)
    return 1.0 - (embeddings.unit(x) * embeddings.unit(y)).sum(axis=-1)


def over_tokens(away_BT: Any, batch: Batch) -> Pair:
    """Sum and number of what is no padding."""
    real_BT = batch.segments_BT > 0
    return jnp.where(real_BT, away_BT, 0.0).sum(), real_BT.sum().astype(jnp.float32)
