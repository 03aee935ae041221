"""Tokens on their way to the experts that a router chose, and back. In: tokens, choices, weights. Out: y_BTD.

Guaranteed: every choice is served, however many fall on one expert; what is chosen is the same on every mesh. On a mesh
each device sorts the tokens it has; where experts lie on different devices (the axis `expert`), those of one group
gather each other's tokens, each computes the rows of its own experts, and the sums are scattered back: the rows that a
device may have to take are all of its group's, and it computes those that are its own.

Letters: X tokens of a device, J choices of a token, R rows: pairs of a token and an expert, sorted by expert.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxlm.models import activations, kernels
from jaxlm.models.grouped import grouped

Weights = tuple[jax.Array, jax.Array, jax.Array]  # w_gate_EDF, w_in_EDF, w_out_EFD
Activation = Callable[[jax.Array], jax.Array]


def mixed(
    x_BTD: jax.Array, ids_BTJ: jax.Array, gates_BTJ: jax.Array, weights: Weights, activation: Activation
) -> jax.Array:
    """y_BTD: of every token the gated sum of its experts' outputs. An id that is no expert's (E) is no choice."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not activations.automatic(mesh) or kernels.counted():
        return _of_tokens(x_BTD, ids_BTJ, gates_BTJ, *weights, activation=activation)
    rows = activations.share(mesh, x_BTD.shape, ("batch", "length", None))
    inner, outer = ("experts", None, "mlp"), ("experts", "mlp", None)
    where = [
        activations.spec(mesh, w.shape, names)
        for w, names in zip(weights, (inner, inner, outer), strict=True)
    ]
    experts, hidden = (activations.axes(where[0][dimension]) for dimension in (0, 2))
    exchanged = bool(experts) and "expert" in activations.axes(rows[0])
    partial = (*(() if exchanged else experts), *hidden)  # whose devices hold parts of the sums
    run = functools.partial(_on_device, activation=activation, split=bool(experts), exchanged=exchanged)
    parts = activations.on_shares(run, (rows, rows, rows, *where), PartitionSpec(partial or None, *rows))
    return parts(x_BTD, ids_BTJ, gates_BTJ, *weights).sum(axis=0)


def _on_device(
    x_BTD: jax.Array,
    ids_BTJ: jax.Array,
    gates_BTJ: jax.Array,
    *weights: Any,
    activation: Activation,
    split: bool,
    exchanged: bool,
) -> jax.Array:
    """[1, B, T, D]: a device's part of the sums. `split`: it has some of the experts; `exchanged`: of the rows, too."""
    if exchanged:
        x_BTD, ids_BTJ, gates_BTJ = (
            jax.lax.all_gather(a, "expert", axis=0, tiled=True) for a in (x_BTD, ids_BTJ, gates_BTJ)
        )
    first = jax.lax.axis_index("expert") * len(weights[0]) if split else 0
    y_BTD = _of_tokens(x_BTD, ids_BTJ - first, gates_BTJ, *weights, activation=activation)
    if exchanged:
        y_BTD = jax.lax.psum_scatter(y_BTD, "expert", scatter_dimension=0, tiled=True)
    return y_BTD[None]


def _of_tokens(
    x_BTD: jax.Array, ids_BTJ: jax.Array, gates_BTJ: jax.Array, *weights: Any, activation: Activation
) -> jax.Array:
    """The sums of those experts that are here, which are numbered from 0; other ids are no choice."""
    w_gate_EDF, w_in_EDF, w_out_EFD = weights
    experts, choices = len(w_gate_EDF), ids_BTJ.shape[-1]
    x_XD, ids_XJ = x_BTD.reshape(-1, x_BTD.shape[-1]), ids_BTJ.reshape(-1, choices)
    order_R, token_R, place_XJ, sizes_E = _sorted(ids_XJ, experts)
    x_RD = _spread(x_XD, token_R, place_XJ)
    h_RF = activation(grouped(x_RD, w_gate_EDF, sizes_E)) * grouped(x_RD, w_in_EDF, sizes_E)
    y_RD = grouped(h_RF, w_out_EFD, sizes_E)
    # What stands behind the last group may be anything, and 0 times anything is not 0.
    y_RD = jnp.where((token_R < len(x_XD))[:, None], y_RD, 0)
    y_RD = (y_RD * gates_BTJ.reshape(-1)[order_R][:, None]).astype(x_BTD.dtype)
    return _collected(y_RD, token_R, place_XJ).reshape(x_BTD.shape)


def _sorted(ids_XJ: jax.Array, experts: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Of every row its pair, and its token (X: it is none); of every pair its row (R: it has none); rows of an expert.

    A token chooses an expert once at most, so that there are X x min(J, E) rows, whatever is chosen.
    """
    tokens, choices = ids_XJ.shape
    rows = tokens * min(choices, experts)
    group_P = jnp.where((ids_XJ >= 0) & (ids_XJ < experts), ids_XJ, experts).reshape(-1)
    order_P = jnp.argsort(group_P, stable=True)
    place_P = jnp.zeros_like(order_P).at[order_P].set(jnp.arange(len(order_P)), unique_indices=True)
    sizes_E = (group_P[:, None] == jnp.arange(experts)).sum(axis=0, dtype=jnp.int32)
    real, order_R = sizes_E.sum(), order_P[:rows]
    token_R = jnp.where(jnp.arange(rows) < real, order_R // choices, tokens)
    return order_R, token_R, jnp.where(place_P < real, place_P, rows).reshape(ids_XJ.shape), sizes_E


@jax.custom_vjp
def _spread(x_XD: jax.Array, token_R: jax.Array, place_XJ: jax.Array) -> jax.Array:
    """x_RD: the token of every row. Its gradient is `_collected`, and the other way round: no scatter."""
    return _taken(x_XD, token_R)


@jax.custom_vjp
def _collected(y_RD: jax.Array, token_R: jax.Array, place_XJ: jax.Array) -> jax.Array:
    """y_XD: the sum of every token's rows."""
    return _taken(y_RD, place_XJ).sum(axis=1)


_spread.defvjp(
    lambda x, token, place: (_spread(x, token, place), (token, place)),
    lambda kept, g: (_collected(g, *kept), None, None),
)
_collected.defvjp(
    lambda y, token, place: (_collected(y, token, place), (token, place)),
    lambda kept, g: (_spread(g, *kept), None, None),
)


def _taken(x: jax.Array, at: jax.Array) -> jax.Array:
    """x[at], zero where that is nowhere."""
    return jnp.take(x, at, axis=0, mode="fill", fill_value=0)
