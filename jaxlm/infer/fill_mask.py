"""Fills [MASK]s. In: sentences and a masked language model. Out: the likeliest tokens for every mask.

Sentences are packed one per row and padded to the longest; a sentence may hold several masks, which are filled
independently of each other, as in training.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch, Vocabulary
from jaxlm.errors import UserError
from jaxlm.objectives.scores import gather_positions
from jaxlm.objectives.targets import TokenTargets

MASK = "[MASK]"


@dataclasses.dataclass(frozen=True)
class Filled:
    """One mask of one sentence: the candidates, likeliest first, as (token, probability)."""

    sentence: str
    candidates: tuple[tuple[str, float], ...]


def fill(
    model: Any, tokenizer: Any, sentences: Sequence[str], *, row_length: int, top: int = 5
) -> list[Filled]:
    """The `top` likeliest tokens for every [MASK], sentence by sentence.

    `model` is bound to its weights; `row_length` is the longest row it takes. Raises UserError for a sentence without
    [MASK] or longer than that.
    """
    ids = [_encode(tokenizer, sentence, row_length) for sentence in sentences]
    if not ids:
        return []
    batch = _batch(ids, tokenizer.vocabulary)

    @jax.jit
    def predict(batch: Batch) -> tuple[jax.Array, jax.Array]:
        x_BMD = gather_positions(model.encode(batch, None).x_BTD, batch.targets.places_BM)
        return jax.lax.top_k(jax.nn.softmax(model.predict_tokens(x_BMD)), min(top, tokenizer.vocabulary.size))

    shares, tokens = jax.device_get(predict(batch))
    found = []
    for row, sentence in enumerate(sentences):
        for slot in np.flatnonzero(np.asarray(batch.targets.weights_BM)[row]):
            pairs = zip(tokens[row, slot], shares[row, slot], strict=True)
            found.append(Filled(sentence, tuple((tokenizer.token(int(t)), float(p)) for t, p in pairs)))
    return found


def table(filled: Sequence[Filled]) -> str:
    """The result as text, one line per mask."""
    lines = []
    for item in filled:
        best = "  ".join(f"{token} {share:.1%}" for token, share in item.candidates)
        lines.append(f"{item.sentence}\n    {best}")
    return "\n".join(lines)


def _encode(tokenizer: Any, sentence: str, row_length: int) -> list[int]:
    vocabulary: Vocabulary = tokenizer.vocabulary
    if MASK not in sentence:
        raise UserError(f"{sentence!r} has no {MASK} to fill. Write {MASK} where a token is wanted.")
    ids = [vocabulary.cls]
    for i, part in enumerate(sentence.split(MASK)):
        ids += ([vocabulary.mask] if i else []) + list(tokenizer.encode(part.strip()))
    ids.append(vocabulary.sep)
    if len(ids) > row_length:
        raise UserError(f"{sentence[:60]!r}... has {len(ids)} tokens; the model takes at most {row_length}.")
    return ids


def _batch(rows: list[list[int]], vocabulary: Vocabulary) -> Batch:
    width = max(map(len, rows))
    tokens_BT = np.array([row + [vocabulary.pad] * (width - len(row)) for row in rows], np.int32)
    segments_BT = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int32)
    masks = [np.flatnonzero(row == vocabulary.mask) for row in tokens_BT]
    slots = max(map(len, masks))
    places_BM = np.array([[*m, *[0] * (slots - len(m))] for m in masks], np.int32)
    weights_BM = np.array([[1.0] * len(m) + [0.0] * (slots - len(m)) for m in masks], np.float32)
    positions_BT = np.broadcast_to(np.arange(width, dtype=np.int32), tokens_BT.shape) * (segments_BT > 0)
    return Batch(
        tokens_BT=tokens_BT,
        segments_BT=segments_BT,
        positions_BT=positions_BT,
        types_BT=np.zeros_like(tokens_BT),
        targets=TokenTargets(ids_BM=np.zeros_like(places_BM), weights_BM=weights_BM, places_BM=places_BM),
    )
