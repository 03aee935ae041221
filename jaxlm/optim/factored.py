"""The parts of Adafactor (Shazeer and Stern 2018). In: updates, parameters, layouts. Out: updates.

What the paper defines per weight matrix is taken for every matrix of a stacked parameter (see matrices.py):
the factors of the second moment and the root mean squares. optax's version would factor the two largest
dimensions of the whole array instead. Moments keep the rank of their parameter, with size 1 where they are
averaged, so that they take its sharding.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.optim.matrices import Dimensions, size


class FactoredState(NamedTuple):
    """Second moments: `rows` (means over columns) and `cols`; what is not factored is in `rows`."""

    step: jax.Array
    rows: Any
    cols: Any


def scale_by_factored_rms(
    decay_rate: float, epsilon: float, factor_from: int, layouts: Any
) -> optax.GradientTransformation:
    """g / sqrt(second moment), that of a matrix kept as rows and columns (algorithm 4).

    A matrix is factored when both its sides have at least `factor_from` entries. The moment decays with
    1 - t^-decay_rate at the t-th update; `epsilon` is added to squared gradients.
    """

    def averaged(x: Any, layout: Dimensions) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The dimensions over which `rows` and `cols` are means; None if not factored."""
        if len(layout.groups) != 2 or any(size(x.shape, group) < factor_from for group in layout.groups):
            return None
        return layout.groups[1], layout.groups[0]

    def init(params: Any) -> FactoredState:
        def zeros(p: Any, layout: Dimensions, side: int) -> jax.Array:
            ones = (averaged(p, layout) or ((), range(len(p.shape))))[side]
            return jnp.zeros([1 if d in ones else n for d, n in enumerate(p.shape)], jnp.float32)

        rows, cols = (jax.tree.map(lambda p, x, k=k: zeros(p, x, k), params, layouts) for k in (0, 1))
        return FactoredState(jnp.zeros((), jnp.int32), rows, cols)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, FactoredState]:
        step = state.step + 1
        decay = 1.0 - step.astype(jnp.float32) ** -decay_rate

        def one(g: jax.Array, rows: jax.Array, cols: jax.Array, layout: Dimensions) -> tuple:
            square = g * g + epsilon
            if (over := averaged(g, layout)) is None:
                rows = decay * rows + (1.0 - decay) * square
                return g * jax.lax.rsqrt(rows), rows, cols
            rows = decay * rows + (1.0 - decay) * jnp.mean(square, over[0], keepdims=True)
            cols = decay * cols + (1.0 - decay) * jnp.mean(square, over[1], keepdims=True)
            share = rows / jnp.mean(rows, over[1], keepdims=True)
            return g * jax.lax.rsqrt(share) * jax.lax.rsqrt(cols), rows, cols

        out = jax.tree.map(one, updates, state.rows, state.cols, layouts)
        scaled, rows, cols = (jax.tree.map(lambda _, o, k=k: o[k], updates, out) for k in range(3))
        return scaled, FactoredState(step, rows, cols)

    return optax.GradientTransformation(init, update)


def clip_by_rms(threshold: float, layouts: Any) -> optax.GradientTransformation:
    """Adafactor's update clipping: u / max(1, RMS(u) / threshold), for every parameter of a stack."""
    limit = lambda u, layout: u / jnp.maximum(1.0, _rms(u, layout) / threshold)
    return optax.stateless(lambda updates, _: jax.tree.map(limit, updates, layouts))


def scale_by_parameter_rms(floor: float, layouts: Any) -> optax.GradientTransformation:
    """Adafactor's relative step: u * max(floor, RMS(p)), for every parameter of a stack."""
    scaled = lambda u, p, layout: u * jnp.maximum(floor, _rms(p, layout))
    return optax.stateless(lambda updates, params: jax.tree.map(scaled, updates, params, layouts))


def _rms(x: jax.Array, layout: Dimensions) -> jax.Array:
    return jnp.sqrt(jnp.mean(x * x, layout.features, keepdims=True))
