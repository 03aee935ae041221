"""T5 (Raffel et al., 1910.10683) and T5 1.1 (Shazeer, 2002.05202): pre-norm encoder-decoder, relative positions.

In: a `T5` config and a `Batch` with source rows. Out: x_BTD of the decoder, float32 logits, a cache for generation.
Guaranteed: pairs packed into one row give what they give alone; float32 norms, softmax and logits; no state.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Kind
from jaxlm.models import checks, encoder_decoder
from jaxlm.models.heads import Activated
from jaxlm.models.t5_encoder import T5Encoder, T5Stack, table


@dataclasses.dataclass(kw_only=True)
class T5(T5Encoder):
    """T5-base as published is hidden 768, 12 and 12 layers, heads 12 of 64, mlp 3072, "relu", gate "none", head
    "scaled", buckets 32, max_distance 128, dropout 0.1, norm_epsilon 1e-6, init_factor 1. T5 1.1 is "gelu_tanh", gate
    "gated", head "untied", mlp 2048."""

    kind: ClassVar[Kind] = "encoder_decoder"

    decoder_layers: int  # number of blocks of the decoder
    # What scores the tokens: embeddings, of features scaled by 1/sqrt(hidden); embeddings; or a table of its own
    head: Literal["scaled", "tied", "untied"]

    def part(self, kind: Kind) -> T5Encoder | None:
        """What it has of another kind, with the same parameters at the same paths."""
        if kind != "encoder":
            return None
        return T5Encoder(**{f.name: getattr(self, f.name) for f in dataclasses.fields(T5Encoder)})

    def class_layer(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Activated:
        """What classes of a text stand behind."""
        return Activated(self, rngs, dtype, jnp.tanh)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Any:
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return T5Module(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        checks.at_least_one(self, where, "decoder_layers")
        super().validate(where)


class T5Module(encoder_decoder.EncoderDecoder):
    """Weights and calls of one T5; made by `T5.module`, bound by `build.Model.bind`."""

    def __init__(self, c: T5, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.tokens = table(c, rngs, 1.0, dtype)
        self.encoder = T5Stack(c, rngs, dtype, layers=c.encoder_layers, decoder=False)
        self.decoder = T5Stack(c, rngs, dtype, layers=c.decoder_layers, decoder=True)
        if c.head == "untied":
            # As Mesh TensorFlow draws a dense layer; transformers' deviation of 1 starts with logits of sqrt(hidden).
            self.scores = table(c, rngs, c.hidden**-0.5, dtype)

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV, float32; V is the padded vocabulary, padding is never predicted."""
        if self.config.head == "untied":
            return self.scores.logits(x_BMD)
        if self.config.head == "scaled":
            x_BMD = x_BMD * jnp.asarray(self.config.hidden**-0.5, x_BMD.dtype)
        return self.tokens.logits(x_BMD)
