"""What is compared of the attention of a student and its teacher. In: queries, keys and values of layers. Out: `Term`s.

No item of a packed row is compared with another, and padding counts nothing: packing changes nothing.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Pair
from jaxlm.errors import UserError
from jaxlm.objectives.distil import Passes
from jaxlm.objectives.distil_layers import Layers, OfLayers, check_depths, over_tokens, paired
from jaxlm.objectives.objective import Objective

_FORBIDDEN = -1e9  # the score of what is not seen


@dataclasses.dataclass(kw_only=True)
class AttentionScores(OfLayers):
    """Scores of queries and keys before the softmax (TinyBERT, 1909.10351, equation 7): their squared error, the mean
    over heads and over the keys that a token sees. Both have as many heads."""

    name: ClassVar[str] = "attention"
    reads: ClassVar[tuple[str, ...]] = ("queries", "keys")

    layers: Layers  # which, see `Layers`

    def check(self, objective: Objective, student: Any, teacher: Any, where: str) -> None:
        """UserError, too, for other numbers of heads or depths that do not divide."""
        super().check(objective, student, teacher, where)
        check_depths(self.layers, student.layers, teacher.layers, where)
        if student.heads != teacher.heads:
            raise UserError(
                f"{where}: AttentionScores compares head with head, and the student has {student.heads}, its teacher "
                f"{teacher.heads}. Fix: Relations(...), or --config.model.heads={teacher.heads}."
            )

    def compared(self, passes: Passes) -> dict[str, Pair]:
        """Term `attention`: the sum over layers."""
        queries, keys = (passes.layers(name) for name in ("queries", "keys"))
        seen_BTS = seen(passes)
        total_BT = jnp.zeros(seen_BTS.shape[:2])
        pairs = zip(paired(self.layers, *queries), paired(self.layers, *keys), strict=True)
        for (q, taught_q), (k, taught_k) in pairs:
            away_BNTS = jnp.square(scores_of(q, k) - scores_of(taught_q, taught_k)).mean(axis=1)
            total_BT += jnp.where(seen_BTS, away_BNTS, 0.0).sum(-1) / jnp.maximum(seen_BTS.sum(-1), 1)
        return {self.name: over_tokens(total_BT, passes.batch)}


Of = Literal["queries", "keys", "values"]


@dataclasses.dataclass(kw_only=True)
class Relations(OfLayers):
    """How the tokens of one layer relate: KL(teacher, student) of the softmax of scaled products, mean over heads.

    MiniLM (2002.10957): the last layers' attention, ("queries", "keys"), and ("values", "values"), with the model's
    heads. MiniLMv2 (2012.15828): queries, keys and values each with themselves, cut into as many heads on both sides,
    so that widths and heads may differ; of a large teacher a layer before the last.
    """

    name: ClassVar[str] = "relations"
    reads: ClassVar[tuple[str, ...]] = ("queries", "keys", "values")

    pairs: tuple[tuple[Of, Of], ...]  # what is related with what
    relation_heads: (
        int  # into which both are cut; published: 12 (MiniLM), 48 of a base teacher, 64 of a large (MiniLMv2)
    )
    teacher_layer: int  # from the top: 1 is the last; published: 1 of 12 layers, 4 of 24 (MiniLMv2: the 21st)

    def validate(self, where: str) -> None:
        """UserError, too, for pairs or numbers that are none."""
        super().validate(where)
        names = {name for pair in self.pairs for name in pair}
        if not self.pairs or not names <= set(self.reads) or any(len(pair) != 2 for pair in self.pairs):
            raise UserError(
                f"{where}.pairs={self.pairs}: pairs of {', '.join(self.reads)}, such as (('queries', 'keys'), "
                "('values', 'values'))."
            )

    def check(self, objective: Objective, student: Any, teacher: Any, where: str) -> None:
        """UserError, too, for heads that do not divide, and a layer that is not there."""
        super().check(objective, student, teacher, where)
        for role, config in (("student", student), ("teacher", teacher)):
            if self.relation_heads < 1 or config.hidden % self.relation_heads:
                raise UserError(
                    f"{where}.relation_heads={self.relation_heads}: does not divide the {role}'s width {config.hidden}."
                )
            if getattr(config, "kv_heads", config.heads) != config.heads:
                raise UserError(
                    f"{where}: the {role} has {config.heads} query heads and {config.kv_heads} of keys, which are not "
                    "as wide. Fix: SoftTargets(...) or HiddenStates(...)."
                )
        if not 1 <= self.teacher_layer <= teacher.layers:
            raise UserError(
                f"{where}.teacher_layer={self.teacher_layer}: allowed is 1 (the last) to {teacher.layers}."
            )

    def compared(self, passes: Passes) -> dict[str, Pair]:
        """Term `relations`: the sum over pairs."""
        seen_BTS = seen(passes)[:, None]
        total_BT = jnp.zeros(seen_BTS.shape[:1] + seen_BTS.shape[2:3])
        for pair in self.pairs:
            ours, theirs = [], []
            for name in pair:
                student, teacher = passes.layers(name)
                ours.append(cut(student[-1], self.relation_heads))
                theirs.append(cut(teacher[-self.teacher_layer], self.relation_heads))
            log_p, log_q = (
                jax.nn.log_softmax(jnp.where(seen_BTS, scores_of(*both), _FORBIDDEN))
                for both in (theirs, ours)
            )
            total_BT += jnp.where(seen_BTS, jnp.exp(log_p) * (log_p - log_q), 0.0).sum(-1).mean(1)
        return {self.name: over_tokens(total_BT, passes.batch)}


def seen(passes: Passes) -> Array:
    """bool [B, T, S]: the keys that a token sees; of padding none."""
    segments_BT, places_T = passes.batch.segments_BT, jnp.arange(passes.batch.segments_BT.shape[1])
    own_BTS = (segments_BT[:, :, None] == segments_BT[:, None, :]) & (segments_BT > 0)[:, :, None]
    causal = passes.student.config.kind == "decoder"
    return own_BTS & (places_T[None, :] <= places_T[:, None]) if causal else own_BTS


def cut(x_BTNH: Array, heads: int) -> Array:
    """The same width in another number of heads."""
    return x_BTNH.reshape(*x_BTNH.shape[:2], heads, -1)


def scores_of(a_BTNH: Array, b_BSKH: Array) -> Array:
    """float32 [B, N, T, S]: products over the root of the width; K heads of keys serve N / K of queries each."""
    a_BTNH, b_BSKH = a_BTNH.astype(jnp.float32), b_BSKH.astype(jnp.float32)
    b_BSNH = jnp.repeat(b_BSKH, a_BTNH.shape[2] // b_BSKH.shape[2], axis=2)
    return jnp.einsum("BTNH,BSNH->BNTS", a_BTNH, b_BSNH) * a_BTNH.shape[-1] ** -0.5
