"""What a check gives to both sides, and what we say of it. In: a model. Out: rows beside each other, our outputs.

Rows of several lengths stand beside each other, so that padding counts.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.exchange.sentence_transformers import Pooling
from jaxlm.infer.loaded import Loaded
from jaxlm.objectives import embeddings

FEATURES = "feature-extraction"
# A head -> the task of transformers
TASKS = {
    "classes": "text-classification",
    "tags": "token-classification",
    "span": "question-answering",
    "tokens": "fill-mask",
}


def rows_of(ready: Loaded) -> list[np.ndarray]:
    """Ids at random, of three lengths; special ones too, but for padding."""
    rng, vocabulary = np.random.default_rng(0), ready.tokenizer.vocabulary
    longest = min(ready.row_length, 24)
    ids = np.delete(np.arange(vocabulary.size), vocabulary.pad)
    return [rng.choice(ids, length) for length in (longest - 3, max(longest // 2, 1), 3)]


def batch_of(ready: Loaded) -> Batch:
    """Padded rows, whose second half is a second text."""
    rows, pad = rows_of(ready), ready.tokenizer.vocabulary.pad
    width = max(map(len, rows))
    tokens_BT = np.stack([np.pad(row, (0, width - len(row)), constant_values=pad) for row in rows]).astype(
        np.int32
    )
    segments_BT = np.stack([np.arange(width) < len(row) for row in rows]).astype(np.int32)
    lengths_B1 = segments_BT.sum(axis=1, keepdims=True)
    types_BT = (np.arange(width) >= lengths_B1 // 2) * segments_BT
    types_BT = np.minimum(types_BT, max(getattr(ready.model.config, "types", 1) - 1, 0)).astype(np.int32)
    rest = [ready.height(len(rows)) - len(rows)]
    more = lambda a_BT: np.pad(a_BT, ((0, rest[0]), (0, 0)))
    return Batch(
        tokens_BT=more(tokens_BT),
        segments_BT=more(segments_BT),
        positions_BT=more(np.arange(width, dtype=np.int32) * segments_BT),
        types_BT=more(types_BT),
    )


@functools.partial(jax.jit, static_argnames=("task", "pooling", "size"))
def outputs(
    model: Any, batch: Batch, *, task: str, pooling: Pooling | None, size: int
) -> dict[str, jax.Array]:
    """By the names that transformers has for them; `size`: entries of the vocabulary that are no padding."""
    x_BTD = model.encode(batch, None).x_BTD
    if task == "fill-mask":
        return {"logits": model.predict_tokens(x_BTD)[..., :size]}
    if task == "text-classification":
        return {"logits": model.classify(x_BTD[:, :1])[:, 0]}
    if task == "token-classification":
        return {"logits": model.heads["tags"](x_BTD)}
    if task == "question-answering":
        start_BT, end_BT = jnp.moveaxis(model.heads["span"](x_BTD), -1, 0)
        return {"start_logits": start_BT, "end_logits": end_BT}
    found = {"last_hidden_state": x_BTD}
    if pooling:
        first_BC = jnp.zeros((len(batch.tokens_BT), 1), jnp.int32)
        _, e_BCD = embeddings.of_items(model, batch, None, first_BC, pooling)
        found["sentence_embedding"] = embeddings.unit(e_BCD[:, 0])
    return found
