"""The ranks of AdaLoRA (Zhang et al., 2303.10512, section 3): who keeps which. In: an optimizer. Out: one around it.

Guaranteed: all matrices compete in one list, layers apart; what was cut may come back until the last cut.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.models.paths import flatten, nest

_E, _A, _B = "/lora_e", "/lora_a", "/lora_b"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How many ranks there are at a step: all until `first`, then fewer by a cubic law, the target's from `last` on."""

    first: int
    last: int
    every: int
    rank: int  # of a matrix at the beginning
    target: int  # in the mean, in the end

    def cut(self, step: jax.Array, matrices: int) -> tuple[jax.Array, jax.Array]:
        """(ranks to cut of all, whether it is done now) after a step; steps count from 1."""
        past = (step - self.first) / (self.last - self.first)
        share = jnp.where(step >= self.last, 0.0, (1 - past) ** 3)
        budget = (
            jnp.floor((self.rank - self.target) * matrices * share).astype(jnp.int32) + self.target * matrices
        )
        now = (step > self.first) & ((step % self.every == 0) & (step < self.last) | (step == self.last))
        return self.rank * matrices - budget, now


class State(NamedTuple):
    """What the sharing of ranks remembers, beside the state of the optimizer within."""

    step: jax.Array  # updates done
    importance: Any  # smoothed |w * gradient| of every element
    uncertainty: Any  # smoothed deviation from it
    kept: Any  # bool of every e: not cut at the last cut
    inner: Any


def shared(
    inner: optax.GradientTransformation, schedule: Schedule, *, decay: float, orthogonality: float
) -> optax.GradientTransformation:
    """`inner` with the gradient of the orthogonality term, and values of e set to zero behind it."""

    def init(params: Any) -> State:
        own, zero = _own(params), jnp.zeros((), jnp.int32)
        zeros = lambda: nest({path: jnp.zeros_like(x) for path, x in own.items()})
        kept = nest({path: jnp.ones(x.shape, bool) for path, x in own.items() if path.endswith(_E)})
        return State(zero, zeros(), zeros(), kept, inner.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, State]:
        grads = jax.tree.map(jnp.add, updates, jax.grad(lambda p: orthogonality * skewness(p))(params))
        updates, inside = inner.update(grads, state.inner, params)
        step = state.step + 1
        made, slopes = _own(jax.tree.map(jnp.add, params, updates)), _own(grads)
        before, doubt = flatten(state.importance), flatten(state.uncertainty)
        seen = {path: jnp.abs(made[path] * slopes[path]) for path in made}
        smooth = lambda old, new: decay * old + (1 - decay) * new
        importance = {path: smooth(before[path], seen[path]) for path in made}
        uncertainty = {p: smooth(doubt[p], jnp.abs(seen[p] - importance[p])) for p in made}
        growing = step < schedule.last
        importance = {path: jnp.where(growing, importance[path], before[path]) for path in made}
        uncertainty = {path: jnp.where(growing, uncertainty[path], doubt[path]) for path in made}
        scores = triplets({path: importance[path] * uncertainty[path] for path in made})
        number, now = schedule.cut(step, sum(math.prod(x.shape[:-1]) for x in scores.values()))
        kept = _kept(scores, number)
        kept = {path: jnp.where(now, kept[path], one) for path, one in flatten(state.kept).items()}
        held = now | (step > schedule.last)
        flat: dict[str, Any] = flatten(updates)
        for path, alive in kept.items():
            flat[path] = jnp.where(held & ~alive, flatten(params)[path] * -1, flat[path])
        return nest(flat), State(step, nest(importance), nest(uncertainty), nest(kept), inside)

    return optax.GradientTransformation(init, update)


def skewness(params: Any) -> jax.Array:
    """Mean over all a and b of |a'a - I|, |b b' - I| (Frobenius), layers apart."""
    total, number = jnp.zeros(()), 0
    for path, x in _own(params).items():
        if path.endswith(_E):
            continue
        stack = _own(params)[path[: -len(_A)] + _E].ndim - 1
        x_XIR = x if path.endswith(_A) else jnp.moveaxis(x, stack, -1)
        x_XIR = x_XIR.reshape(*x.shape[:stack], -1, x_XIR.shape[-1])
        square = jnp.matmul(x_XIR.mT, x_XIR, precision=jax.lax.Precision.HIGHEST)
        off = jnp.square(square - jnp.eye(square.shape[-1])).sum((-2, -1))
        total, number = total + jnp.sqrt(jnp.maximum(off, 1e-30)).sum(), number + off.size
    return total / number


def triplets(scores: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """By path of e: importance of every rank, from those of its elements: e's, and the means of a's and b's."""
    found = {}
    for path, e in scores.items():
        if path.endswith(_E):
            base, stack = path.removesuffix(_E), e.ndim - 1
            a, b = scores[base + _A], scores[base + _B]
            found[path] = e + a.mean(range(stack, a.ndim - 1)) + b.mean(range(stack + 1, b.ndim))
    return found


def _kept(scores: Mapping[str, jax.Array], number: jax.Array) -> dict[str, jax.Array]:
    """All but the `number` least of the list of all."""
    least = jnp.sort(jnp.concatenate([one.ravel() for one in scores.values()]))
    limit = jnp.where(number > 0, least[jnp.maximum(number - 1, 0)], -1.0)
    return {path: one > limit for path, one in scores.items()}


def _own(params: Any) -> dict[str, jax.Array]:
    """a, b and e of every matrix, by path."""
    return {path: x for path, x in flatten(params).items() if path.endswith((_A, _B, _E))}
