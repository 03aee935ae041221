"""Embeddings of texts. In: texts and an encoder. Out: one vector per text, of length 1, and their cosines.

Texts are encoded in batches of similar length, so that little is padding; what stands beside a text in its batch does
not change its vector. A text longer than a row is cut off at its end.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch, Vocabulary
from jaxlm.objectives import embeddings

WIDTH = 16  # rows are padded to multiples of it: few shapes to compile


def embed(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    pooling: embeddings.Pooling,
    row_length: int,
    batch_size: int = 32,
) -> np.ndarray:
    """[texts, D], float32, vectors of length 1 in the order of the texts.

    `model` is bound to its weights. UserError when the tokenizer has no [CLS] and [SEP].
    """
    vocabulary: Vocabulary = tokenizer.vocabulary
    vocabulary.require("embedding texts", "cls", "sep")
    ids = [list(tokenizer.encode(text))[: row_length - 2] for text in texts]

    @jax.jit
    def encode(batch: Batch) -> jax.Array:
        first_BC = jax.numpy.zeros((batch.tokens_BT.shape[0], 1), "int32")  # one text a row
        e_BCD = embeddings.pool(model, model.encode(batch, None).x_BTD, batch, first_BC, pooling)
        return embeddings.unit(e_BCD[:, 0])

    found: dict[int, np.ndarray] = {}
    order = sorted(range(len(ids)), key=lambda k: len(ids[k]))
    for at in range(0, len(order), batch_size):
        part = order[at : at + batch_size]
        vectors = jax.device_get(encode(_batch([ids[k] for k in part], vocabulary, row_length, batch_size)))
        found |= dict(zip(part, vectors, strict=False))  # the batch is filled up with empty rows
    return np.stack([found[k] for k in range(len(ids))]) if ids else np.zeros((0, 0), np.float32)


def cosines(vectors: np.ndarray) -> np.ndarray:
    """[texts, texts]: of every vector with every other; they have length 1."""
    return (vectors.astype(np.float64) @ vectors.T.astype(np.float64)).astype(np.float32)


def table(texts: Sequence[str], vectors: np.ndarray) -> str:
    """The cosines as text: a line per text."""
    between = cosines(vectors)
    width = min(max((len(text) for text in texts), default=0), 48)
    return "\n".join(
        f"{text[:48]:<{width}}  " + "  ".join(f"{value:7.4f}" for value in line)
        for text, line in zip(texts, between, strict=True)
    )


def _batch(ids: list[list[int]], vocabulary: Vocabulary, row_length: int, rows: int) -> Batch:
    """One text a row, [CLS] text [SEP]; empty rows up to `rows` where a full batch was made before."""
    width = min(-(-(max(map(len, ids)) + 2) // WIDTH) * WIDTH, row_length)
    tokens_BT = np.full((rows, width), vocabulary.pad, np.int32)
    segments_BT = np.zeros((rows, width), np.int32)
    for row, text in enumerate(ids):
        size = len(text) + 2
        tokens_BT[row, :size] = [vocabulary.cls, *text, vocabulary.sep]
        segments_BT[row, :size] = 1
    return Batch(
        tokens_BT=tokens_BT,
        segments_BT=segments_BT,
        positions_BT=np.arange(width, dtype=np.int32)[None] * segments_BT,
        types_BT=np.zeros_like(tokens_BT),
    )
