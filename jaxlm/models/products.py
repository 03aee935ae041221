"""The two products of attention. In: queries, keys, probabilities, values with heads in front. Out: scores, features.

Scores are float32; their gradient is rounded to the dtype of the queries, as fused kernels do: else the backward pass
would multiply in float32. Gradients contract over queries, which lie second to last in both factors; a CPU takes five
times as long for that as for the usual product, so there one factor is turned first. Rows R are the queries of all
heads that share a key head.
"""

import jax
import jax.numpy as jnp

from jaxlm.models import kernels


@jax.custom_vjp
def scores(q_BKRH: jax.Array, k_BKSH: jax.Array) -> jax.Array:
    """scores_BKRS, float32, not scaled."""
    return jnp.einsum("BKRH,BKSH->BKRS", q_BKRH, k_BKSH, preferred_element_type=jnp.float32)


@jax.custom_vjp
def weighted(p_BKRS: jax.Array, v_BKSH: jax.Array) -> jax.Array:
    """Values weighted by probabilities, o_BKRH, in the dtype of both."""
    return jnp.einsum("BKRS,BKSH->BKRH", p_BKRS, v_BKSH)


def _scores_back(kept: tuple[jax.Array, jax.Array], g_BKRS: jax.Array) -> tuple[jax.Array, jax.Array]:
    q_BKRH, k_BKSH = kept
    g_BKRS = g_BKRS.astype(q_BKRH.dtype)
    return weighted(g_BKRS, k_BKSH).astype(q_BKRH.dtype), _over_rows(q_BKRH, g_BKRS).astype(k_BKSH.dtype)


def _weighted_back(kept: tuple[jax.Array, jax.Array], g_BKRH: jax.Array) -> tuple[jax.Array, jax.Array]:
    p_BKRS, v_BKSH = kept
    of_p_BKRS = jnp.einsum("BKRH,BKSH->BKRS", g_BKRH, v_BKSH).astype(p_BKRS.dtype)
    return of_p_BKRS, _over_rows(g_BKRH, p_BKRS).astype(v_BKSH.dtype)


def _over_rows(x_BKRH: jax.Array, y_BKRS: jax.Array) -> jax.Array:
    if kernels.platform() != "cpu":
        return jnp.einsum("BKRH,BKRS->BKSH", x_BKRH, y_BKRS)
    x_BKHR = jax.lax.optimization_barrier(x_BKRH.swapaxes(2, 3))  # else the compiler turns it back
    return jnp.einsum("BKHR,BKRS->BKHS", x_BKHR, y_BKRS).swapaxes(2, 3)


scores.defvjp(lambda q, k: (scores(q, k), (q, k)), _scores_back)
weighted.defvjp(lambda p, v: (weighted(p, v), (p, v)), _weighted_back)
