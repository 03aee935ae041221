"""Weights go while training goes on, more and more of them. In: a pattern of paths, a share, by what. Out: a view.

view=(Movement(weights=MATRICES, share=0.8, by="movement"),)

Guaranteed: of each matrix exactly the share of the schedule reads as 0, layers and experts apart. `jaxlm export`,
`jaxlm compress` and every command take what the model reads, zeros and all; `view=(KeepZeros(...),)` keeps them there.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.errors import UserError, check_pattern
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import whole
from jaxlm.views.view import Facts, Tree, View, check_some, parts

# Behind the path of a weight: which of its entries stay, a vector that no optimizer decays; the share of it that is 0
# now, [*stack, 1], which the optimizer sets.
_SCORES, _GONE = "_scores", "_gone"


@dataclasses.dataclass(kw_only=True)
class Movement(View):
    """Published, BERT on MNLI with a teacher: 84.5; of a tenth of the weights 80.1 by movement, 78.3 by magnitude; of
    3 % 76.5 and 69.4 (2005.07683).

    Scores begin at 0 and only their order counts, so that the model's optimizer moves them at the rate of the weights:
    with Adam another rate of theirs makes the same order. A score costs what a weight costs, moments included.
    """

    averages: ClassVar[bool] = False  # the share would be averaged, too

    weights: str  # regular expression: the matrices whose path begins with a match
    share: float  # of each matrix that is 0 in the end; published: 0.85 to 0.97 with several epochs
    # movement: scores learn, by the gradient of the mask, what moves away from 0 (Sanh et al., 2005.07683);
    # magnitude: the smallest weights go (Zhu and Gupta, 1710.01878)
    by: Literal["movement", "magnitude"]
    begin: float = 0.1  # share of the run's steps before the first weight goes
    # share of the run's steps after which no more go; between them by a cubic law, fast at first
    end: float = 0.7

    def validate(self, where: str) -> None:
        """A pattern that is one, and shares that are some."""
        check_pattern(self.weights, f"{where}.weights")
        if not 0 < self.share < 1:
            raise UserError(
                f"{where}.share={self.share}: must be above 0 and below 1. Fix: 0.8 leaves a fifth of the weights."
            )
        if not 0 <= self.begin < self.end <= 1:
            raise UserError(
                f"{where}: begin={self.begin} and end={self.end} are shares of the run, from 0 to 1, the first below "
                "the second. Fix: begin=0.1, end=0.7."
            )

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when it names no matrix."""
        check_some(facts, self._named, f"{where}.weights", self.weights)

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """All of it, scores of 0, and shares of 0; nothing is frozen."""
        trained = dict(params)
        for path, array in params.items():
            if self._named(path, facts[path]):
                stack = parts(facts[path], array.shape)[0]
                trained[path + _GONE] = jnp.zeros((*stack, 1), jnp.float32)
                if self.by == "movement":
                    trained[path + _SCORES] = jnp.zeros((*stack, array.size // math.prod(stack)), jnp.float32)
        return trained, {}

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """Zeros in place of what goes. Scores get the gradient of the mask as if they were it (straight-through)."""
        merged = {path: array for path, array in trained.items() if not path.endswith((_SCORES, _GONE))}
        for name, gone in trained.items():
            if not name.endswith(_GONE):
                continue
            path = name.removesuffix(_GONE)
            weight, scores = whole(trained[path]), trained.get(path + _SCORES)
            mask = kept(weight, scores, gone)
            if scores is not None:
                mask = mask + (scores - jax.lax.stop_gradient(scores)).reshape(mask.shape).astype(mask.dtype)
            merged[path] = weight * mask
        return merged

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Of scores and shares, too: vectors for every matrix, which no optimizer decays, factors or orthogonalises."""
        found = dict(facts)
        for path, one in facts.items():
            if self._named(path, one):
                stack = parts(one, one.axes)[0]
                found[path + _GONE] = Facts((*stack, None), 0)
                if self.by == "movement":
                    found[path + _SCORES] = Facts((*stack, "embed"), 0)
        return found

    def optimizer(self, made: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
        """With the shares that go set by the schedule."""
        return scheduled(made, share=self.share, first=round(self.begin * steps), last=self.final_from(steps))

    def final_from(self, steps: int) -> int:
        """The first step with the whole share: one of before has fewer zeros, however good it was."""
        return round(self.end * steps)

    def _named(self, path: str, one: Facts) -> bool:
        return one.inputs > 0 and re.match(self.weights, path) is not None


def kept(weight: jax.Array, scores: jax.Array | None, gone_X1: jax.Array) -> jax.Array:
    """1 and 0 in the shape of the weight: 0 for that share of each matrix with the least scores, of equal scores with
    the smallest weights, of equal weights the first; without scores the smallest weights alone."""
    flat_XN = jax.lax.stop_gradient(weight).reshape(*gone_X1.shape[:-1], -1)
    place_XN = jax.lax.broadcasted_iota(jnp.uint32, flat_XN.shape, flat_XN.ndim - 1)
    keys = [_ordered(jnp.abs(flat_XN)), place_XN]
    if scores is not None:
        keys = [_ordered(jax.lax.stop_gradient(scores)), *keys]
    number_X1 = jnp.round(gone_X1 * flat_XN.shape[-1]).astype(jnp.int32)
    return (~least(keys, number_X1)).astype(weight.dtype).reshape(weight.shape)


def least(keys: Sequence[jax.Array], number_X1: jax.Array) -> jax.Array:
    """Bool [..., N]: so many, the least by the first key, among equals by the next; the last key has no equals.

    Bit by bit, which needs sums alone where a sort would bring a matrix that lies on many devices onto each of them.
    """
    gone_XN, open_XN = jnp.zeros(keys[0].shape, bool), jnp.ones(keys[0].shape, bool)
    for key_XN in keys:
        limit_X1 = _limit(key_XN, open_XN, number_X1)
        below_XN = open_XN & (key_XN < limit_X1)
        gone_XN, open_XN = gone_XN | below_XN, open_XN & (key_XN == limit_X1)
        number_X1 = number_X1 - below_XN.sum(-1, keepdims=True, dtype=jnp.int32)
    return gone_XN | (open_XN & (number_X1 > 0))


def _limit(key_XN: jax.Array, open_XN: jax.Array, number_X1: jax.Array) -> jax.Array:
    """The largest number that fewer than `number` open keys are below; 0 where that is none."""

    def narrowed(bit: jax.Array, limit_X1: jax.Array) -> jax.Array:
        tried_X1 = limit_X1 | (jnp.uint32(1) << (31 - bit).astype(jnp.uint32))
        below_X1 = (open_XN & (key_XN < tried_X1)).sum(-1, keepdims=True, dtype=jnp.int32)
        return jnp.where(below_X1 < number_X1, tried_X1, limit_X1)

    return jax.lax.fori_loop(0, 32, narrowed, jnp.zeros(number_X1.shape, jnp.uint32))


def _ordered(numbers: jax.Array) -> jax.Array:
    """uint32 in the order of these float32 numbers; 0 and -0 are the same."""
    numbers = jnp.where(numbers == 0, 0.0, numbers.astype(jnp.float32))
    bits = jax.lax.bitcast_convert_type(numbers, jnp.uint32)
    return jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))


class State(NamedTuple):
    """`step`: updates done; `inner`: of the optimizer within."""

    step: jax.Array
    inner: Any


def share_at(step: jax.Array, share: float, first: int, last: int) -> jax.Array:
    """What has gone after so many updates: none until `first`, all from `last` on (1710.01878, equation 1)."""
    past = jnp.clip((step - first) / max(last - first, 1), 0.0, 1.0)
    return share * (1 - (1 - past) ** 3)


def scheduled(
    inner: optax.GradientTransformation, *, share: float, first: int, last: int
) -> optax.GradientTransformation:
    """`inner`, which does not move the shares that go: they become what the schedule says."""

    def init(params: Any) -> State:
        return State(jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, State]:
        updates, inside = inner.update(updates, state.inner, params)
        step, before = state.step + 1, flatten(params)
        gone = share_at(step, share, first, last)
        made = {p: gone - before[p] if p.endswith(_GONE) else u for p, u in flatten(updates).items()}
        return nest(made), State(step, inside)

    return optax.GradientTransformation(init, update)
