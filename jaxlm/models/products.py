"""The two products of attention. In: queries, keys, probabilities, values with heads in front. Out: scores, features.

Their gradients contract over queries, which lie second to last in both factors. A CPU takes five times as long for
that as for the usual product, so there one factor is turned first. Rows R are the queries of all heads that share a
key head.
"""

import jax
import jax.numpy as jnp

from jaxlm.models import kernels


def scores(q_BKRH: jax.Array, k_BKSH: jax.Array) -> jax.Array:
    """scores_BKRS, float32, not scaled."""
    return (_turning_scores if kernels.platform() == "cpu" else _scores)(q_BKRH, k_BKSH)


def weighted(p_BKRS: jax.Array, v_BKSH: jax.Array) -> jax.Array:
    """Values weighted by probabilities, o_BKRH, in the dtype of both."""
    return (_turning_weighted if kernels.platform() == "cpu" else _weighted)(p_BKRS, v_BKSH)


def _scores(q_BKRH: jax.Array, k_BKSH: jax.Array) -> jax.Array:
    return jnp.einsum("BKRH,BKSH->BKRS", q_BKRH, k_BKSH, preferred_element_type=jnp.float32)


def _weighted(p_BKRS: jax.Array, v_BKSH: jax.Array) -> jax.Array:
    return jnp.einsum("BKRS,BKSH->BKRH", p_BKRS, v_BKSH)


def _scores_back(kept: tuple[jax.Array, jax.Array], g_BKRS: jax.Array) -> tuple[jax.Array, jax.Array]:
    q_BKRH, k_BKSH = kept
    return _weighted(g_BKRS, k_BKSH).astype(q_BKRH.dtype), _over_rows(q_BKRH, g_BKRS).astype(k_BKSH.dtype)


def _weighted_back(kept: tuple[jax.Array, jax.Array], g_BKRH: jax.Array) -> tuple[jax.Array, jax.Array]:
    p_BKRS, v_BKSH = kept
    return _scores(g_BKRH, v_BKSH).astype(p_BKRS.dtype), _over_rows(g_BKRH, p_BKRS).astype(v_BKSH.dtype)


def _over_rows(x_BKRH: jax.Array, y_BKRS: jax.Array) -> jax.Array:
    x_BKHR = jax.lax.optimization_barrier(x_BKRH.swapaxes(2, 3))  # else the compiler turns it back
    return jnp.einsum("BKHR,BKRS->BKHS", x_BKHR, y_BKRS).swapaxes(2, 3)


_turning_scores, _turning_weighted = jax.custom_vjp(_scores), jax.custom_vjp(_weighted)
_turning_scores.defvjp(lambda q, k: (_scores(q, k), (q, k)), _scores_back)
_turning_weighted.defvjp(lambda p, v: (_weighted(p, v), (p, v)), _weighted_back)
