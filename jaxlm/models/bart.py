"""BART (Lewis et al., 1910.13461): post-norm encoder-decoder with learned positions.

In: a `Bart` config and a `Batch` with source rows. Out: x_BTD of the decoder, float32 logits, a cache for generation.
Guaranteed: pairs packed into one row give what they give alone; float32 norms, softmax and logits; no state.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Kind
from jaxlm.models import checks, encoder_decoder, kernels, parameters, stack
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.heads import Activated
from jaxlm.models.mlp import Activation
from jaxlm.models.norm import LayerNorm

# fairseq numbers positions from the padding id (1) + 1: the first two rows of published tables belong to no position.
FIRST_POSITION = 2


@dataclasses.dataclass(kw_only=True)
class Bart:
    """The published BART-base is hidden 768, 6 and 6 layers, heads 12, mlp 3072, max_positions 1024, "gelu", dropout
    0.1, attention_dropout 0.1, activation_dropout 0.1, norm_epsilon 1e-5, init_scale 0.02."""

    kind: ClassVar[Kind] = "encoder_decoder"

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int  # width of the residual stream (d_model)
    encoder_layers: int  # number of blocks of the encoder
    decoder_layers: int  # number of blocks of the decoder
    heads: int  # attention heads; hidden / heads is the width of each
    mlp: int  # width between the two matrices of an MLP (d_ff)
    max_positions: int  # of the source and of the target
    activation: Activation  # of the MLP: gelu (erf), gelu_tanh, relu, silu
    dropout: float  # on embeddings and on what attention and MLP add
    attention_dropout: float  # on attention probabilities; above 0 rules out the fused kernels
    activation_dropout: float  # on the hidden units of the MLP
    norm_epsilon: float  # added to the variance, under the root
    init_scale: float  # standard deviation of initial weights
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

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "BartModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return BartModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        names = ("vocab_size", "hidden", "encoder_layers", "decoder_layers", "heads", "mlp", "max_positions")
        checks.at_least_one(self, where, *names)
        checks.divides(self, where)
        checks.rates(self, where, "dropout", "attention_dropout", "activation_dropout")
        checks.above_zero(self, where, "norm_epsilon", "init_scale")

    def check_row_length(self, row_length: int, where: str) -> None:
        """Raise UserError if a row of that many tokens has positions that this model has no embedding for."""
        checks.row_length(row_length, self.max_positions, where)


class BartStack(encoder_decoder.Stack):
    """Positions and a norm of its own before the blocks of each side."""

    def __init__(self, c: Bart, rngs: nnx.Rngs, dtype: jnp.dtype, *, layers: int, decoder: bool):
        self.dtype, self.dropout = dtype, c.dropout
        shape = (c.max_positions + FIRST_POSITION, c.hidden)
        self.positions = parameters.weight(rngs, shape, ("positions", "embed"), c.init_scale)
        self.norm_embeddings = LayerNorm(c.hidden, c.norm_epsilon)
        block = lambda r: encoder_decoder.post_norm(
            c, r, dtype, cross=decoder, scale=c.init_scale, mlp_scale=c.init_scale
        )
        self.blocks = stack.stacked(block, layers, rngs)

    def enter(self, x_BTD: jax.Array, positions_BT: jax.Array, key: jax.Array | None) -> jax.Array:
        """Tokens + positions, then norm."""
        x_BTD = x_BTD + self.positions[...][positions_BT + FIRST_POSITION].astype(self.dtype)
        return dropout(self.norm_embeddings(x_BTD), self.dropout, key)


class BartModule(encoder_decoder.EncoderDecoder):
    """Weights and calls of one BART; made by `Bart.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Bart, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.tokens = TokenEmbedding(
            rngs, vocab_size=c.vocab_size, width=c.hidden, scale=c.init_scale, dtype=dtype
        )
        self.encoder = BartStack(c, rngs, dtype, layers=c.encoder_layers, decoder=False)
        self.decoder = BartStack(c, rngs, dtype, layers=c.decoder_layers, decoder=True)

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV, float32; V is the padded vocabulary, padding is never predicted."""
        return self.tokens.logits(x_BMD)
