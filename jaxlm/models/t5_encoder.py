"""The encoder of T5 alone: transformers' T5EncoderModel. In: a `T5Encoder` and a `Batch`. Out: x_BTD.

Guaranteed: texts packed into one row give what they give alone; float32 norms and softmax; no state. Its parameters
have the paths that they have within a whole T5 (models/t5.py), which this file is the larger part of.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch, Kind
from jaxlm.errors import UserError
from jaxlm.models import checks, encoder_decoder, kernels, masks, parameters, stack
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.encoded import Encoded
from jaxlm.models.mlp import Activation, GatedMlp, Mlp
from jaxlm.models.norm import RmsNorm
from jaxlm.models.relative_bias import RelativeBias


@dataclasses.dataclass(kw_only=True)
class T5Encoder:
    """Sizes as in `T5`. No token stands for a text: what is asked of one is best read off their mean."""

    kind: ClassVar[Kind] = "encoder"

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int  # width of the residual stream (d_model)
    encoder_layers: int  # number of blocks of the encoder
    heads: int  # attention heads
    head_dim: int  # heads x head_dim need not be hidden
    mlp: int  # width between the two matrices of an MLP (d_ff)
    activation: Activation  # of the MLP: gelu (erf), gelu_tanh, relu, silu
    gate: Literal["none", "gated"]  # of the MLP; gated: activation(x W_gate) * (x W_in)
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
    stage_repeats: int = 1  # groups of layers on each of mesh.stage: parts of a batch go round so often
    attention: kernels.Implementation = "auto"  # kernel; auto: the fastest that is right for device and rows

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Any:
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return T5EncoderModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        names = ("vocab_size", "hidden", "encoder_layers", "heads", "head_dim", "mlp")
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


def table(c: T5Encoder, rngs: nnx.Rngs, deviation: float, dtype: jnp.dtype) -> TokenEmbedding:
    """Vectors of tokens, drawn with this deviation times `init_factor`."""
    scale = parameters.scale_for(c.init_factor * deviation)
    return TokenEmbedding(rngs, vocab_size=c.vocab_size, width=c.hidden, scale=scale, dtype=dtype)


def _block(c: T5Encoder, rngs: nnx.Rngs, dtype: jnp.dtype, *, cross: bool) -> encoder_decoder.Block:
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

    def __init__(self, c: T5Encoder, rngs: nnx.Rngs, dtype: jnp.dtype, *, layers: int, decoder: bool):
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


class T5EncoderModule(encoder_decoder.Stacked):
    """Weights and calls of one encoder; made by `T5Encoder.module`, bound by `build.Model.bind`."""

    def __init__(self, c: T5Encoder, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.tokens = table(c, rngs, 1.0, dtype)
        self.encoder = T5Stack(c, rngs, dtype, layers=c.encoder_layers, decoder=False)

    def embed(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """What goes into the blocks, x_BTD; `encode` with the same key takes it, or something near it."""
        return self.enter(self.encoder, batch.tokens_BT, batch.positions_BT, key)

    def encode(
        self,
        batch: Batch,
        key: jax.Array | None = None,
        x_BTD: jax.Array | None = None,
        at_BM: jax.Array | None = None,
    ) -> Encoded:
        """Normed features, from `embed`'s x_BTD or a given one. `key` None means no dropout."""
        x_BTD = self.embed(batch, key) if x_BTD is None else x_BTD
        mask = masks.materialise(masks.within_segments(batch.segments_BT, most_segments=batch.most_segments))
        x_BTD, extras = self.through(self.encoder, x_BTD, (mask, None), key, self.config.encoder_layers)
        return Encoded.of(x_BTD if at_BM is None else masks.at_places(x_BTD, at_BM), extras)
