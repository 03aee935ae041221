"""BERT (Devlin et al., 2019; google-research/bert modeling.py): post-norm encoder.

In: a `Bert` config and a `Batch`. Out: x_BTD, and float32 logits of its heads.
Guaranteed: items packed into one row give what they give alone; float32 norms, softmax and logits; no state.
"""

import dataclasses

import jax.numpy as jnp
from flax import nnx

from jaxlm.models import checks, post_norm, stack


@dataclasses.dataclass(kw_only=True)
class Bert(post_norm.PostNorm):
    """The published BERT-base is hidden 768, layers 12, heads 12, mlp 3072, max_positions 512, types 2,
    dropouts 0.1,
    norm_epsilon 1e-12, "gelu", init_scale 0.02, positions "normal"."""

    types: int  # token types (sentence A, sentence B)
    position_init: post_norm.PositionInit  # how the learned positions start; published: "normal"

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "BertModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return BertModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        super().validate(where)
        checks.at_least_one(self, where, "types")


class BertModule(post_norm.Encoder):
    """Weights and calls of one BERT; made by `Bert.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Bert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.embeddings = post_norm.Embeddings(c, rngs, dtype, types=c.types, position_init=c.position_init)
        self.blocks = stack.stacked(lambda r: post_norm.Block(c, r, dtype), c.layers, rngs)
