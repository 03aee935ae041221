"""Spans in texts: entities, or words with a part of speech. In: texts, a tagger. Out: `Span`s of each text.

A word is what stands between spaces (with `between=""` of the run's column every letter), and has the tag of its first
token. Of BIO tags the likeliest sequence is taken among those that can be: I-x follows B-x or I-x (Viterbi). Words
behind `max_tokens` have none.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.config import Run
from jaxlm.data.corpus.record import Span
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.tagging import Tagging

_NEVER = -1e9


def tag(
    predictor: Predictor, objective: Tagging, texts: Sequence[str], *, between: str = " "
) -> list[list[Span]]:
    """(first character, one after the last, label) of every span of every text, in order."""
    tokenizer, vocabulary = predictor.tokenizer, predictor.tokenizer.vocabulary
    found = tokenizer.encode_batch_with_offsets(list(texts))
    cut = [(ids[: objective.max_tokens], offsets[: objective.max_tokens]) for ids, offsets in found]
    rows = [[vocabulary.cls, *ids.tolist(), vocabulary.sep] for ids, _ in cut]
    results = predictor.by_row(_log_shares, rows)
    spans = []
    for text, (_, offsets), log_shares_TK in zip(texts, cut, results, strict=True):
        words, first = _words(text, offsets, between)
        scores_NK = log_shares_TK[1:][first]  # behind [CLS]
        spans.append(_spans(words, scores_NK, objective))
    return spans


def between(run: Run) -> str:
    """What stands between two words in the texts that a tagger was trained on."""
    column = next(one for one in run.data.columns if one.field == run.objective.column)
    return getattr(column, "between", " ")


@jax.jit
def _log_shares(module: Any, batch: Batch) -> jax.Array:
    return jax.nn.log_softmax(module.heads["tags"](module.encode(batch, None).x_BTD))


def _words(text: str, offsets: np.ndarray, between: str) -> tuple[list[tuple[int, int]], np.ndarray]:
    """(places of the words that have a token, the first token of each)."""
    places = [match.span() for match in re.finditer(r"\S+" if between else r"\S", text)]
    ends = offsets[:, 1] if len(offsets) else np.zeros(0, int)
    first = np.searchsorted(
        ends, [start for start, _ in places], side="right"
    )  # the first token that ends behind it
    kept = [i for i, t in enumerate(first) if t < len(offsets) and offsets[t, 0] < places[i][1]]
    return [places[i] for i in kept], first[kept].astype(int)


def _spans(words: list[tuple[int, int]], scores_NK: np.ndarray, objective: Tagging) -> list[Span]:
    if objective.scheme == "words":
        best = scores_NK.argmax(axis=1) if len(words) else []
        return [(*place, objective.labels[int(k)]) for place, k in zip(words, best, strict=True)]
    found: list[Span] = []
    for (start, end), k in zip(words, likeliest(scores_NK), strict=True):
        if k % 2:
            found.append((start, end, objective.labels[k // 2]))
        elif k:
            found[-1] = (found[-1][0], end, found[-1][2])
    return found


def likeliest(scores_NK: np.ndarray) -> list[int]:
    """The sequence of BIO tags (0: O, 2 n + 1: B of label n, 2 n + 2: I of it) with the largest sum of scores in which
    every I continues a span of its label."""
    if not len(scores_NK):
        return []
    allowed_KK = _follows(scores_NK.shape[1])
    total_K = np.where(_begins(scores_NK.shape[1]), scores_NK[0], _NEVER)
    before: list[np.ndarray] = []
    for scores_K in scores_NK[1:]:
        through_KK = total_K[:, None] + allowed_KK
        before.append(through_KK.argmax(axis=0))
        total_K = through_KK.max(axis=0) + scores_K
    path = [int(total_K.argmax())]
    for step_K in reversed(before):
        path.append(int(step_K[path[-1]]))
    return path[::-1]


@functools.cache
def _begins(tags: int) -> np.ndarray:
    """Whether a text may begin with the tag."""
    k = np.arange(tags)
    return (k == 0) | (k % 2 == 1)


@functools.cache
def _follows(tags: int) -> np.ndarray:
    """[before, tag]: 0 where it may follow, else a number that no path survives."""
    k = np.arange(tags)
    same = (k[:, None] + 1) // 2 == (k[None, :] + 1) // 2  # B and I of one label
    return np.where(_begins(tags)[None, :] | (same & (k[:, None] > 0)), 0.0, _NEVER)
