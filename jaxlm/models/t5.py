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
from jaxlm.errors import UserError
from jaxlm.models import checks, encoder_decoder, kernels, parameters, stack
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.heads import Activated
from jaxlm.models.mlp import Activation, GatedMlp, Mlp
from jaxlm.models.norm import RmsNorm
from jaxlm.models.relative_bias import RelativeBias


@dataclasses.dataclass(kw_only=True)
class T5:
    """T5-base as published is hidden 768, 12 and 12 layers, heads 12 of 64, mlp 3072, "relu", gate "none", head
    "scaled", buckets 32, max_distance 128, dropout 0.1, norm_epsilon 1e-6, init_factor 1. T5 1.1 is "gelu_tanh", gate
    "gated", head "untied", mlp 2048."""

    kind: ClassVar[Kind] = "encoder_decoder"

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int  # width of the residual stream (d_model)
    encoder_layers: int  # number of blocks of the encoder
    decoder_layers: int  # number of blocks of the decoder
    heads: int  # attention heads
    head_dim: int  # heads x head_dim need not be hidden
    mlp: int  # width between the two matrices of an MLP (d_ff)
    activation: Activation  # of the MLP: gelu (erf), gelu_tanh, relu, silu
    gate: Literal["none", "gated"]  # of the MLP; gated: activation(x W_gate) * (x W_in)
    # What scores the tokens: embeddings, of features scaled by 1/sqrt(hidden); embeddings; or a table of its own
    head: Literal["scaled", "tied", "untied"]
    buckets: int  # of relative positions
    max_distance: int  # from here on, all distances share a bucket
    dropout: float  # everywhere; above 0 rules out the fused kernels of attention
    norm_epsilon: float  # added to the variance, under the root
    init_factor: float  # of all initial standard deviations
    # Operational: the same parameters and, to rounding, the same results.
    layer_loop: stack.Loop = (
        "auto"  # scan compiles one block for all; auto: unrolled where that is faster (GPU, CPU)
    )
    remat: stack.Remat = "none"  # compute parts again in the backward pass: less memory, more time
    attention: kernels.Implementation = "auto"  # kernel; auto: the fastest that is right for device and rows

    def class_layer(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Activated:
        """What classes of a text stand behind."""
        return Activated(self, rngs, dtype, jnp.tanh)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "T5Module":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return T5Module(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        names = ("vocab_size", "hidden", "encoder_layers", "decoder_layers", "heads", "head_dim", "mlp")
        checks.at_least_one(self, where, *names)
        checks.rates(self, where, "dropout")
        checks.above_zero(self, where, "norm_epsilon", "init_factor")
        if self.buckets < 4 or self.buckets % 2:
            raise UserError(
                f"{where}.buckets={self.buckets}: an even number from 4 on; the encoder has half of them for each side."
            )
        if self.max_distance <= self.buckets // 2:
            raise UserError(
                f"{where}.max_distance={self.max_distance}: above {where}.buckets / 2 = {self.buckets // 2}, the "
                "distances that have a bucket each in the decoder."
            )

    def check_row_length(self, row_length: int, where: str) -> None:
        """Positions are relative: rows of any length fit."""


def _block(c: T5, rngs: nnx.Rngs, dtype: jnp.dtype, *, cross: bool) -> encoder_decoder.Block:
    """Initial deviations as in Mesh TensorFlow: 1/sqrt of the inputs of every weight."""
    scale = lambda inputs: parameters.scale_for(c.init_factor * inputs**-0.5)

    def attention(kind: type) -> nnx.Module:
        made = kind(
            rngs,
            width=c.hidden,
            heads=c.heads,
            head_dim=c.head_dim,
            scale=scale(c.hidden),
            out_scale=scale(c.heads * c.head_dim),
            score_scale=1.0,
            biases="none",
            dropout=c.dropout,
            implementation=c.attention,
            dtype=dtype,
        )
        # What other models divide the scores by is in T5's initial queries.
        made.wq.set_value(made.wq[...] * c.head_dim**-0.5)
        return made

    def mlp() -> Mlp | GatedMlp:
        sizes: dict[str, Any] = {
            "width": c.hidden,
            "hidden": c.mlp,
            "activation": c.activation,
            "dtype": dtype,
        }
        scales: dict[str, Any] = {"scale": scale(c.hidden), "out_scale": scale(c.mlp)}
        if c.gate == "gated":
            return GatedMlp(rngs, **sizes, **scales)
        return Mlp(rngs, **sizes, **scales, biases="none")

    parts = encoder_decoder.BlockParts(
        norms="pre",
        norm=lambda: RmsNorm(c.hidden, c.norm_epsilon),
        attention=attention,
        mlp=mlp,
        dropout=c.dropout,
        mlp_dropout=c.dropout,
    )
    return encoder_decoder.Block(parts, cross=cross)


class T5Stack(encoder_decoder.Stack):
    """Blocks that share one table of relative positions, and a norm behind them."""

    def __init__(self, c: T5, rngs: nnx.Rngs, dtype: jnp.dtype, *, layers: int, decoder: bool):
        self.dropout = c.dropout
        self.blocks = stack.stacked(lambda r: _block(c, r, dtype, cross=decoder), layers, rngs)
        self.relative_bias = RelativeBias(
            rngs,
            heads=c.heads,
            buckets=c.buckets,
            max_distance=c.max_distance,
            bidirectional=not decoder,
            scale=parameters.scale_for(c.init_factor * c.hidden**-0.5),
        )
        self.norm = RmsNorm(c.hidden, c.norm_epsilon)

    def enter(self, x_BTD: jax.Array, positions_BT: jax.Array, key: jax.Array | None) -> jax.Array:
        """Dropout alone: positions are in the scores."""
        return dropout(x_BTD, self.dropout, key)

    def bias(self, queries_T: jax.Array, keys_S: jax.Array) -> jax.Array:
        """bias_NTS of relative positions."""
        return self.relative_bias(queries_T, keys_S)

    def leave(self, x_BTD: jax.Array, key: jax.Array | None) -> jax.Array:
        """The last norm."""
        return dropout(self.norm(x_BTD), self.dropout, key)


class T5Module(encoder_decoder.EncoderDecoder):
    """Weights and calls of one T5; made by `T5.module`, bound by `build.Model.bind`."""

    def __init__(self, c: T5, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        table = lambda deviation: TokenEmbedding(
            rngs,
            vocab_size=c.vocab_size,
            width=c.hidden,
            scale=parameters.scale_for(c.init_factor * deviation),
            dtype=dtype,
        )
        self.tokens = table(1.0)
        self.encoder = T5Stack(c, rngs, dtype, layers=c.encoder_layers, decoder=False)
        self.decoder = T5Stack(c, rngs, dtype, layers=c.decoder_layers, decoder=True)
        if c.head == "untied":
            # As Mesh TensorFlow draws a dense layer; transformers' deviation of 1 starts with logits of sqrt(hidden).
            self.scores = table(c.hidden**-0.5)

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV, float32; V is the padded vocabulary, padding is never predicted."""
        if self.config.head == "untied":
            return self.scores.logits(x_BMD)
        if self.config.head == "scaled":
            x_BMD = x_BMD * jnp.asarray(self.config.hidden**-0.5, x_BMD.dtype)
        return self.tokens.logits(x_BMD)
