"""DistilBERT (Sanh et al., 1910.01108): half of BERT's blocks, without token types, without a pooler.

In: a `DistilBert` config and a `Batch`. Out: x_BTD and float32 logits of tokens. Guaranteed: items packed into one row
give what they give alone; float32 norms, softmax and logits; no state.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models import post_norm, stack
from jaxlm.models.bert import Bert
from jaxlm.models.heads import Activated


@dataclasses.dataclass(kw_only=True)
class DistilBert(post_norm.PostNorm):
    """The published DistilBERT-base is vocab_size 30522, hidden 768, layers 6, heads 12, mlp 3072, max_positions 512,
    dropouts 0.1, norm_epsilon 1e-12, "gelu", init_scale 0.02, positions "normal"."""

    position_init: post_norm.PositionInit  # how the learned positions start; published: "normal"

    def begun_with(self, other: Any) -> "DistilBert | None":
        """A config whose weights those of `other` may stand for: a BERT's, without its token types and pooler, as
        published. None: there is none."""
        if not isinstance(other, Bert):
            return None
        shared = {field.name: getattr(other, field.name) for field in dataclasses.fields(DistilBert)}
        return DistilBert(**shared)

    def class_layer(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Activated:
        """What classes of a text stand behind, in place of a pooler."""
        return Activated(self, rngs, dtype, jax.nn.relu)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "DistilBertModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return DistilBertModule(self, rngs, dtype)


class DistilBertModule(post_norm.Encoder):
    """Weights and calls of one DistilBERT; made by `DistilBert.module`, bound by `build.Model.bind`."""

    def __init__(self, c: DistilBert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.embeddings = post_norm.Embeddings(c, rngs, dtype, types=0, position_init=c.position_init)
        self.blocks = stack.stacked(lambda r: post_norm.Block(c, r, dtype), c.layers, rngs)
