"""A mixture of experts in place of an MLP: a router sends every token to few of E gated MLPs.

In: x_BTD and its segments. Out: y_BTD and `Routed`, what the router did, of which `balance` and `z` make terms of loss.
Guaranteed: no token is dropped, whatever the balance (Mixtral: Jiang et al., 2401.04088; dropless: Gale et al.,
2211.15841); the router's softmax is float32; padding (segment 0) goes to no expert and counts nothing.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models import dispatch, parameters
from jaxlm.models.dense import dense
from jaxlm.models.mlp import Activation, activation
from jaxlm.models.values import whole


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Routed:
    """What a router did with the tokens of a batch, as sums over them, float32; of several layers with L in front."""

    chosen_E: jax.Array  # tokens that went to each expert
    likely_E: jax.Array  # its probability
    squares: jax.Array  # of the logarithm of the sum of all exponentials
    tokens: jax.Array  # without padding


class Experts(nnx.Module):
    """x_BTD -> y_BTD: the best `choices` of `experts` gated MLPs (see mlp.GatedMlp), weighted by the router."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        width: int,
        hidden: int,
        experts: int,
        choices: int,
        activation: Activation,
        scale: float,
        dtype: jnp.dtype,
    ):
        self.activation: Activation = activation
        self.choices, self.dtype = choices, dtype
        axes = ("experts", "embed", "mlp")
        self.router = parameters.weight(rngs, (width, experts), ("embed", None), scale)
        self.w_gate = parameters.weight(rngs, (experts, width, hidden), axes, scale)
        self.w_in = parameters.weight(rngs, (experts, width, hidden), axes, scale)
        self.w_out = parameters.weight(rngs, (experts, hidden, width), ("experts", "mlp", "embed"), scale)

    def __call__(self, x_BTD: jax.Array, segments_BT: jax.Array) -> tuple[jax.Array, Routed]:
        # float32 sums: bfloat16 ones would decide between experts that are close by their rounding.
        logits_BTE = dense(x_BTD, self.router[...].astype(self.dtype), result=jnp.float32)
        likely_BTE = jax.nn.softmax(logits_BTE)
        gates_BTJ, ids_BTJ = jax.lax.top_k(likely_BTE, self.choices)
        gates_BTJ = gates_BTJ / gates_BTJ.sum(axis=-1, keepdims=True)
        real_BT1, experts = (segments_BT > 0)[..., None], logits_BTE.shape[-1]
        ids_BTJ = jnp.where(real_BT1, ids_BTJ, experts)
        gate_EDF, in_EDF, out_EFD = (
            whole(w[...]).astype(self.dtype) for w in (self.w_gate, self.w_in, self.w_out)
        )
        y_BTD = dispatch.mixed(
            x_BTD, ids_BTJ, gates_BTJ, (gate_EDF, in_EDF, out_EFD), activation(self.activation)
        )
        routed = Routed(
            chosen_E=(ids_BTJ[..., None] == jnp.arange(experts)).sum(axis=(0, 1, 2), dtype=jnp.float32),
            likely_E=jnp.where(real_BT1, likely_BTE, 0.0).sum(axis=(0, 1)),
            squares=jnp.where(real_BT1[..., 0], jax.nn.logsumexp(logits_BTE, axis=-1) ** 2, 0.0).sum(),
            tokens=real_BT1.sum(dtype=jnp.float32),
        )
        return y_BTD, routed


def balance(routed: Routed) -> jax.Array:
    """E x the sum over experts of their share of the choices x their mean probability: J if all are used alike.

    Switch Transformer (2101.03961, equations 4 to 6), over the tokens of all layers together, as transformers has it.
    """
    tokens = jnp.maximum(routed.tokens.sum(), 1.0)
    chosen_E, likely_E = (
        x.reshape(-1, x.shape[-1]).sum(axis=0) / tokens for x in (routed.chosen_E, routed.likely_E)
    )
    return len(chosen_E) * (chosen_E * likely_E).sum()


def z(routed: Routed) -> jax.Array:
    """The mean square of log(sum(exp(logits))), which keeps logits small (ST-MoE, 2202.08906, equation 5)."""
    return routed.squares.sum() / jnp.maximum(routed.tokens.sum(), 1.0)
