"""The Transformer (Vaswani et al., 1706.03762): post-norm encoder-decoder with sinusoidal positions, for translation.

In: a `Transformer` config and a `Batch` with source rows. Out: x_BTD of the decoder, float32 logits, a cache.
Guaranteed: pairs packed into one row give what they give alone; float32 norms, softmax and logits; no state.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Kind
from jaxlm.errors import UserError
from jaxlm.models import checks, encoder_decoder, kernels, parameters, stack
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.heads import Activated
from jaxlm.models.mlp import Activation


@dataclasses.dataclass(kw_only=True)
class Transformer:
    """The published base model is hidden 512, 6 and 6 layers, heads 8, mlp 2048, "relu", dropout 0.1, norm_epsilon
    1e-6; the big one hidden 1024, heads 16, mlp 4096, dropout 0.3 (0.1 for French)."""

    kind: ClassVar[Kind] = "encoder_decoder"

    vocab_size: (
        int  # of source and target together; real tokens, the table inside is padded to a multiple of 128
    )
    hidden: int  # width of the residual stream (d_model)
    encoder_layers: int  # number of blocks of the encoder
    decoder_layers: int  # number of blocks of the decoder
    heads: int  # attention heads; hidden / heads is the width of each
    mlp: int  # width between the two matrices of an MLP (d_ff)
    max_positions: int  # the longest row; positions are computed, so nothing else depends on it
    activation: Activation  # of the MLP: gelu (erf), gelu_tanh, relu, silu
    dropout: float  # on embeddings and on what attention and MLP add
    attention_dropout: float  # on attention probabilities; above 0 rules out the fused kernels
    activation_dropout: float  # on the hidden units of the MLP
    norm_epsilon: float  # added to the variance, under the root
    # Operational: the same parameters and, to rounding, the same results.
    layer_loop: stack.Loop = (
        "auto"  # scan compiles one block for all; auto: unrolled where that is faster (GPU, CPU)
    )
    remat: stack.Remat = "none"  # compute parts again in the backward pass: less memory, more time
    stage_repeats: int = 1  # groups of layers on each of mesh.stage: parts of a batch go round so often
    attention: kernels.Implementation = "auto"  # kernel; auto: the fastest that is right for device and rows

    def class_layer(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Activated:
        """What classes of a text stand behind."""
        return Activated(self, rngs, dtype, jnp.tanh)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "TransformerModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return TransformerModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        names = ("vocab_size", "hidden", "encoder_layers", "decoder_layers", "heads", "mlp", "max_positions")
        checks.at_least_one(self, where, *names)
        checks.divides(self, where)
        checks.rates(self, where, "dropout", "attention_dropout", "activation_dropout")
        checks.above_zero(self, where, "norm_epsilon")
        if self.hidden % 2:
            raise UserError(
                f"{where}.hidden={self.hidden}: must be even, half of it are sines, half cosines."
            )

    def check_row_length(self, row_length: int, where: str) -> None:
        """Raise UserError if rows of that many tokens are longer than the model is meant for."""
        checks.row_length(row_length, self.max_positions, where)


def sinusoids(positions_BT: jax.Array, width: int) -> jax.Array:
    """Sines and cosines of the positions (section 3.5), float32: all sines first, as in tensor2tensor and Marian."""
    angles_BTD = positions_BT[..., None] * 10000.0 ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    return jnp.concatenate([jnp.sin(angles_BTD), jnp.cos(angles_BTD)], -1)


class TransformerStack(encoder_decoder.Stack):
    """The blocks of one side, drawn as Glorot and Bengio (2010) do: deviation sqrt(2 / (inputs + outputs))."""

    def __init__(self, c: Transformer, rngs: nnx.Rngs, dtype: jnp.dtype, *, layers: int, decoder: bool):
        self.dropout = c.dropout
        scale = lambda outputs: parameters.scale_for(math.sqrt(2 / (c.hidden + outputs)))
        block = lambda r: encoder_decoder.post_norm(
            c, r, dtype, cross=decoder, scale=scale(c.hidden), mlp_scale=scale(c.mlp)
        )
        self.blocks = stack.stacked(block, layers, rngs)

    def enter(self, x_BTD: jax.Array, positions_BT: jax.Array, key: jax.Array | None) -> jax.Array:
        """Tokens scaled by sqrt(hidden), + positions."""
        width = x_BTD.shape[-1]
        x_BTD = x_BTD * jnp.asarray(width**0.5, x_BTD.dtype)
        return dropout(x_BTD + sinusoids(positions_BT, width).astype(x_BTD.dtype), self.dropout, key)


class TransformerModule(encoder_decoder.EncoderDecoder):
    """Weights and calls of one Transformer; made by `Transformer.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Transformer, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        scale = parameters.scale_for(c.hidden**-0.5)  # what goes in has deviation 1, like the sinusoids
        self.tokens = TokenEmbedding(rngs, vocab_size=c.vocab_size, width=c.hidden, scale=scale, dtype=dtype)
        self.encoder = TransformerStack(c, rngs, dtype, layers=c.encoder_layers, decoder=False)
        self.decoder = TransformerStack(c, rngs, dtype, layers=c.decoder_layers, decoder=True)

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV, float32; V is the padded vocabulary, padding is never predicted."""
        return self.tokens.logits(x_BMD)
