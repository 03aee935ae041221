"""Token embeddings and the tied decoder, over a vocabulary padded to a multiple of 128.

In: ids, or features to score against every token. Out: x_BTD, or float32 logits. Guaranteed: entries of
padding start at zero, are never predicted (their softmax is exactly 0) and get no gradient, so they stay
zero.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models import parameters
from jaxlm.models.activations import constrain
from jaxlm.models.dense import dense

# TPU lanes are 128 wide, and 128 divides by any usual tensor-parallel degree.
_MULTIPLE = 128
# exp of it is exactly 0 next to any real logit; finite and far from overflow, so that sums of logits stay
# finite.
_NEVER = -1e9


def padded(vocab_size: int) -> int:
    """Rows of the embedding table."""
    return -(-vocab_size // _MULTIPLE) * _MULTIPLE


class TokenEmbedding(nnx.Module):
    """A table of token vectors that also decodes."""

    def __init__(self, rngs: nnx.Rngs, *, vocab_size: int, width: int, scale: float, dtype: jnp.dtype):
        self.vocab_size = vocab_size
        self.dtype = dtype
        rows = padded(vocab_size)
        self.table = parameters.weight(rngs, (rows, width), ("vocab", "embed"), scale)
        real = jnp.arange(rows)[:, None] < vocab_size
        self.table.set_value(jnp.where(real, self.table[...], 0))

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        return self.table[...][tokens_BT].astype(self.dtype)

    def logits(self, x_BMD: jax.Array, bias_V: jax.Array | None = None) -> jax.Array:
        """Scores of every token (V is the padded size), float32."""
        table_VD = self.table[...].astype(self.dtype)
        logits_BMV = dense(x_BMD, table_VD.T, result=jnp.dtype("float32"))
        logits_BMV = logits_BMV if bias_V is None else logits_BMV + bias_V
        logits_BMV = constrain(logits_BMV, "batch", "length", "vocab")
        return jnp.where(jnp.arange(logits_BMV.shape[-1]) < self.vocab_size, logits_BMV, _NEVER)
