"""Which inputs of a matrix stay, and the matrix over those. In: groups of inputs, what comes in. Out: places, weights.

One after the other the group goes whose loss costs least once the others have made it good (ZipLM: Kurtic et al.,
2302.04089; OSSCAR: Meng et al., 2403.12983); what is left is then fitted by least squares to what all inputs gave.
"""

import jax
import jax.numpy as jnp

_EXACT = jax.lax.Precision.HIGHEST


def damped(square_II: jax.Array, damping: float) -> jax.Array:
    """The sum of x x^T with a part of its mean on the diagonal; inputs that never come count as independent."""
    diagonal_I = jnp.diag(square_II)
    return square_II + jnp.diag(jnp.where(diagonal_I == 0, 1.0, 0.0) + damping * diagonal_I.mean())


def by_activations(w_IO: jax.Array, square_II: jax.Array, groups: int, keep: int) -> jax.Array:
    """Places, in order, of the groups of neighbouring inputs that stay; `square_II` is invertible."""
    size = len(w_IO) // groups
    inverse_II = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(square_II), True), jnp.eye(len(w_IO)))

    def gone(_: jax.Array, carried: tuple) -> tuple:
        inverse_II, w_IO, stays_G = carried
        own_GSS = _own_blocks(inverse_II, groups)
        own_GSS = jnp.where(stays_G[:, None, None], own_GSS, jnp.eye(size))
        w_GSO = w_IO.reshape(groups, size, -1)
        back_GSS = 1 / own_GSS if size == 1 else jnp.linalg.inv(own_GSS)
        cost_G = (w_GSO * jnp.matmul(back_GSS, w_GSO, precision=_EXACT)).sum((1, 2))
        least = jnp.argmin(jnp.where(stays_G, cost_G, jnp.inf))
        first = least * size
        across_IS = jax.lax.dynamic_slice_in_dim(inverse_II, first, size, axis=1)
        share_IS = jnp.matmul(across_IS, back_GSS[least], precision=_EXACT)
        inverse_II = inverse_II - jnp.matmul(share_IS, across_IS.T, precision=_EXACT)
        w_IO = w_IO - jnp.matmul(share_IS, w_GSO[least], precision=_EXACT)
        return inverse_II, w_IO, stays_G.at[least].set(False)

    started = (inverse_II, w_IO, jnp.ones(groups, bool))
    stays_G = jax.lax.fori_loop(0, groups - keep, gone, started)[2]
    return jnp.sort(jnp.argsort(~stays_G)[:keep])


def fitted(w_IO: jax.Array, square_II: jax.Array, at_J: jax.Array) -> jax.Array:
    """w_JO over the inputs at these places, with the least error of what w_IO makes of all."""
    square_JI = square_II[at_J]
    wanted_JO = jnp.matmul(square_JI, w_IO, precision=_EXACT)
    lower_JJ = jnp.linalg.cholesky(square_JI[:, at_J])
    return jax.scipy.linalg.cho_solve((lower_JJ, True), wanted_JO)


def within(at_J: jax.Array, size: int) -> jax.Array:
    """Places of all that the groups of this size at these places hold."""
    return (at_J[:, None] * size + jnp.arange(size)).reshape(-1)


def _own_blocks(square_II: jax.Array, groups: int) -> jax.Array:
    """[groups, size, size] on the diagonal."""
    size = len(square_II) // groups
    if size == 1:
        return jnp.diag(square_II)[:, None, None]
    blocks = square_II.reshape(groups, size, groups, size)
    return blocks[jnp.arange(groups), :, jnp.arange(groups)]
