"""What a head says of whole texts. In: items of one or two texts, a classifier. Out: of each its logits, or shares.

An item is laid out as in training, alone in its row: what is packed with others there gets the same answer.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch, Vocabulary
from jaxlm.data.rows.texts import longest_first
from jaxlm.errors import UserError
from jaxlm.infer.predict import Predictor
from jaxlm.objectives import labelled, reading
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.labelled import Judged
from jaxlm.objectives.targets import ItemTargets


def classify(
    predictor: Predictor, objective: Classification, items: Sequence[Sequence[str]], *, batch_size: int = 32
) -> list[np.ndarray]:
    """The probabilities [K] of every item. UserError for an item of another number of texts."""
    found = outputs(predictor, objective, items, batch_size=batch_size)
    return [shares(logits_K) for logits_K in found]


def shares(logits: np.ndarray) -> np.ndarray:
    """The softmax over the last axis, [..., K]."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def outputs(
    predictor: Predictor, objective: Judged, items: Sequence[Sequence[str]], *, batch_size: int = 32
) -> list[np.ndarray]:
    """The logits [K], float32, of every item. UserError for an item of another number of texts."""
    rows = laid_out(predictor, items, objective.texts, objective.max_tokens)
    vocabulary = predictor.tokenizer.vocabulary
    return predictor.by_row(
        functools.partial(_judged, vocabulary=vocabulary, pooling=objective.pooling),
        rows,
        targets=functools.partial(nothing_known, vocabulary=vocabulary),
        batch_size=batch_size,
    )


def laid_out(
    predictor: Predictor, items: Sequence[Sequence[str]], texts: int, max_tokens: int
) -> list[list[int]]:
    """Of every item its texts, cut, in one segment. UserError for an item of another number of texts."""
    if wrong := [item for item in items if len(item) != texts]:
        raise UserError(f"an item of {len(wrong[0])} texts, and the model was trained on {texts}.")
    flat = predictor.tokenizer.encode_batch([text for item in items for text in item])
    kept = longest_first(np.array([len(ids) for ids in flat]).reshape(-1, texts), max_tokens).reshape(-1)
    cut = [ids[:most] for ids, most in zip(flat, kept, strict=True)]
    vocabulary = predictor.tokenizer.vocabulary
    return [vocabulary.framed(*cut[at : at + texts]).tolist() for at in range(0, len(cut), texts)]


def alone(rows: int, vocabulary: Vocabulary) -> ItemTargets:
    """Targets of rows with one item each, of which nothing is known."""
    zeros = np.zeros((rows, 1), np.int32)
    start_B = np.repeat(reading.start(vocabulary), rows)
    return ItemTargets(first_BC=zeros, labels_BC=zeros, weights_BC=zeros.astype(np.float32), start_B=start_B)


def nothing_known(tokens_BT: np.ndarray, vocabulary: Vocabulary) -> ItemTargets:
    """`alone`, of a batch's tokens."""
    return alone(len(tokens_BT), vocabulary)


def typed(batch: Batch, vocabulary: Vocabulary) -> Batch:
    """With the number of its text as the type of every token."""
    ends_BT = (batch.tokens_BT == vocabulary.marks[1][0]).astype(jnp.int32)
    before_BT = jnp.cumsum(ends_BT, axis=1) - ends_BT
    types_BT = jnp.where(batch.segments_BT > 0, jnp.minimum(before_BT, 1), 0)
    return dataclasses.replace(batch, types_BT=types_BT)


def _judged(module: Any, batch: Batch, *, vocabulary: Vocabulary, pooling: reading.Pooling) -> jax.Array:
    """With the types of tokens."""
    return _outputs(module, typed(batch, vocabulary), pooling=pooling)


@functools.partial(jax.jit, static_argnames="pooling")
def _outputs(module: Any, batch: Batch, *, pooling: reading.Pooling) -> jax.Array:
    """Of the one item of every row."""
    return labelled.judge(module, batch, None, pooling)["classes"]()[:, 0]
