"""Averages of the weights. In: parameters after an update. Out: their average, float32.

Pure functions for the step. The decay of the exponential one grows with the step towards its final value, min(decay,
(1 + s) / (10 + s)), so that the initial weights are forgotten at once (the rule of TensorFlow's
ExponentialMovingAverage with `num_updates`).
"""

from typing import Any

import jax
import jax.numpy as jnp


def init(params: Any) -> Any:
    """The average before the first update: a float32 copy, never the same buffers (the state is donated)."""
    return jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)


def update(average: Any, params: Any, step: jax.typing.ArrayLike, decay: float) -> Any:
    """The average after the update number `step` (from 0) gave `params`; 0 <= decay < 1."""
    step = jnp.asarray(step, jnp.float32)
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1.0 - now) * (p.astype(jnp.float32) - a), average, params)


def tail(average: Any, params: Any, step: jax.typing.ArrayLike, first: int) -> Any:
    """The mean of the parameters after updates `first` (from 0) to `step`; until then the parameters themselves."""
    share = 1.0 / (jnp.maximum(jnp.asarray(step, jnp.float32) - first, 0.0) + 1.0)
    return jax.tree.map(lambda a, p: a + share * (p.astype(jnp.float32) - a), average, params)
