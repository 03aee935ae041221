"""Mixtral (Jiang et al., 2401.04088): a Llama or Mistral whose MLP is a mixture of experts.

In: a `Mixtral` config and a `Batch`. Out: as of a Llama, and the router's terms of the loss. Guaranteed: what Llama
guarantees; every token reaches all experts that its router chose, in training as in generation.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models import checks, experts, llama, masks
from jaxlm.models.encoded import Encoded, Extras


@dataclasses.dataclass(kw_only=True)
class Mixtral(llama.Llama):
    """The published Mixtral-8x7B is Mistral-7B without window, Rope(base=1e6), with experts 8, experts_per_token 2."""

    experts: int  # gated MLPs in every layer, each of `mlp` hidden units
    experts_per_token: int  # that a token goes through
    balance_loss: float  # weight of what asks for experts to be used alike; published: 0.02; 0: none
    router_z_loss: float  # weight of the mean square of the router's log-sum-exp; ST-MoE: 1e-3; 0: none

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "MixtralModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return MixtralModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """As of a Llama; no token may ask for more experts than there are."""
        super().validate(where)
        checks.at_least_one(self, where, "experts", "experts_per_token")
        checks.not_below_zero(self, where, "balance_loss", "router_z_loss")
        if self.experts_per_token > self.experts:
            raise UserError(
                f"{where}.experts_per_token={self.experts_per_token}: there are {where}.experts={self.experts}. "
                "Change one of the two."
            )


class Block(llama.Block):
    """Llama's, with experts."""

    def make_mlp(self, c: llama.Llama, rngs: nnx.Rngs, dtype: jnp.dtype) -> None:
        """The router and its experts."""
        assert isinstance(c, Mixtral)
        self.experts = experts.Experts(
            rngs,
            width=c.hidden,
            hidden=c.mlp,
            experts=c.experts,
            choices=c.experts_per_token,
            activation=c.activation,
            scale=c.init_scale,
            dtype=dtype,
        )

    def apply_mlp(self, x_BTD: jax.Array, segments_BT: jax.Array) -> tuple[jax.Array, Extras]:
        """The experts' sum, and what the router did."""
        y_BTD, routed = self.experts(x_BTD, segments_BT)
        return y_BTD, Extras(sums=routed)


class MixtralModule(llama.LlamaModule):
    """Weights and calls of one Mixtral."""

    block = Block
    config: Mixtral

    def encode(
        self,
        batch: Batch,
        key: jax.Array | None = None,
        x_BTD: jax.Array | None = None,
        at_BM: jax.Array | None = None,
    ) -> Encoded:
        """As of a Llama, with the router's terms of the loss. Every layer computes all places: they count."""
        c, found = self.config, super().encode(batch, key, x_BTD)
        weights = {
            "balance": (c.balance_loss, experts.balance),
            "router_z": (c.router_z_loss, experts.z),
        }
        terms = {
            name: (weight * term(found.sums), jnp.ones(()))
            for name, (weight, term) in weights.items()
            if weight
        }
        x_BTD = found.x_BTD if at_BM is None else masks.at_places(found.x_BTD, at_BM)
        return dataclasses.replace(found, x_BTD=x_BTD, terms=terms)
