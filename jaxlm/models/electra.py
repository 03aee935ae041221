"""ELECTRA (Clark et al., 2003.10555): a small generator replaces tokens, a discriminator finds which.

In: a `Batch`, and an `Electra` config (the pair, for pre-training) or an `ElectraEncoder` (one of the two, as files
hold them). Out: x_BTD; float32 logits of tokens (generator) or of "replaced" (discriminator). Guaranteed: the pair has
one set of embeddings, their norm included, as in the published code.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch, Kind
from jaxlm.models import checks, masks, post_norm, stack
from jaxlm.models.encoded import Encoded, Extras
from jaxlm.models.heads import Activated, Dense, Headed
from jaxlm.models.mlp import exact_gelu


@dataclasses.dataclass(kw_only=True)
class _Sizes(post_norm.PostNorm):
    embedding: int  # width of the tables of tokens, positions and types; projected where it is not `hidden`
    types: int  # token types (sentence A, sentence B)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        super().validate(where)
        checks.at_least_one(self, where, "embedding", "types")

    def token_head(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> post_norm.TokenHead:
        """As narrow as the table that decodes."""
        return post_norm.TokenHead(self, rngs, dtype, width=self.embedding)


@dataclasses.dataclass(kw_only=True)
class ElectraEncoder(_Sizes):
    """One encoder alone, as `Electra` has two of them; the sizes are published with those of the pair."""

    def class_layer(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Activated:
        """What classes of a text stand behind, in place of a pooler."""
        return Activated(self, rngs, dtype, exact_gelu)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "ElectraEncoderModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return ElectraEncoderModule(self, rngs, dtype)


@dataclasses.dataclass(kw_only=True)
class Electra(_Sizes):
    """Generator and discriminator; the sizes are the discriminator's. The published small pair is vocab_size 30522,
    embedding 128, hidden 256, layers 12, heads 4, mlp 1024, max_positions 512, types 2, dropouts 0.1, norm_epsilon
    1e-12, "gelu", init_scale 0.02, with a generator of a quarter of it: hidden 64, layers 12, heads 1, mlp 256."""

    kind: ClassVar[Kind] = "pair"

    generator_hidden: int  # width of the generator's residual stream
    generator_layers: int  # number of the generator's blocks
    generator_heads: int  # attention heads of the generator
    generator_mlp: int  # width between the two matrices of the generator's MLP

    @property
    def discriminator(self) -> ElectraEncoder:
        """The discriminator alone."""
        shared = {field.name for field in dataclasses.fields(ElectraEncoder)}
        return ElectraEncoder(**{name: getattr(self, name) for name in shared})

    @property
    def generator(self) -> ElectraEncoder:
        """The generator alone, with embeddings of its own."""
        names = ("hidden", "layers", "heads", "mlp")
        sizes = {name: getattr(self, f"generator_{name}") for name in names}
        return dataclasses.replace(self.discriminator, **sizes)

    def token_head(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> post_norm.TokenHead:
        """The generator's."""
        return self.generator.token_head(rngs, dtype)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "ElectraModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return ElectraModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built, in either of the two."""
        super().validate(where)
        self.generator.validate(f"{where} (its generator_* fields)")


class ElectraEncoderModule(post_norm.Encoder):
    """Weights and calls of one encoder; `embeddings` of another one, where they are shared."""

    def __init__(
        self,
        c: ElectraEncoder,
        rngs: nnx.Rngs,
        dtype: jnp.dtype,
        embeddings: post_norm.Embeddings | None = None,
    ):
        self.config = c
        own = lambda: post_norm.Embeddings(c, rngs, dtype, types=c.types, width=c.embedding)
        self.embeddings = own() if embeddings is None else embeddings
        if c.embedding != c.hidden:
            self.project = Dense(c, rngs, c.embedding, c.hidden, dtype)
        self.blocks = stack.stacked(lambda r: post_norm.Block(c, r, dtype), c.layers, rngs)

    def run_blocks(
        self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None, at_BM: jax.Array | None
    ) -> tuple[jax.Array, Extras]:
        """The blocks, behind the projection of the embeddings if there is one."""
        x_BTD = self.project(x_BTD) if hasattr(self, "project") else x_BTD
        return super().run_blocks(x_BTD, mask, key, at_BM)

    def detect(self, x_BTD: jax.Array) -> jax.Array:
        """Features -> logits_BT, float32: above 0 where the token was replaced."""
        return self.heads["replaced"](x_BTD)


class ElectraModule(Headed):
    """The pair: `generator` and `discriminator` encode, and the pair has the heads of both."""

    def __init__(self, c: Electra, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.discriminator = ElectraEncoderModule(c.discriminator, rngs, dtype)
        self.generator = ElectraEncoderModule(c.generator, rngs, dtype, self.discriminator.embeddings)

    def embed(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """What goes into the discriminator's blocks."""
        return self.discriminator.embed(batch, key)

    def encode(
        self,
        batch: Batch,
        key: jax.Array | None = None,
        x_BTD: jax.Array | None = None,
        at_BM: jax.Array | None = None,
    ) -> Encoded:
        """The discriminator's features: what the pair is trained for."""
        return self.discriminator.encode(batch, key, x_BTD, at_BM)

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of the generator -> logits_BMV, float32."""
        head = self.heads["tokens"]
        return self.discriminator.embeddings.tokens.logits(head(x_BMD), head.b_vocab[...])

    def detect(self, x_BTD: jax.Array) -> jax.Array:
        """Features of the discriminator -> logits_BT, float32: above 0 where the token was replaced."""
        return self.heads["replaced"](x_BTD)
