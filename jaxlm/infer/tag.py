"""Spans in texts: entities, or words with a part of speech. In: texts, a tagger. Out: scores of words, and `Span`s.

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
from jaxlm.data.corpus.record import Span
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.tagging import Tagging

_NEVER = -1e9


def scores(
    predictor: Predictor, objective: Tagging, texts: Sequence[str], *, between: str = " "
) -> list[np.ndarray]:
    """Log-probabilities of the tags of every word of every text, [words, K]; NaN of a word that has none."""
    tokenizer, vocabulary = predictor.tokenizer, predictor.tokenizer.vocabulary
    found = tokenizer.encode_batch_with_offsets(list(texts))
    cut = [(ids[: objective.max_tokens], offsets[: objective.max_tokens]) for ids, offsets in found]
    rows = [[vocabulary.cls, *ids.tolist(), vocabulary.sep] for ids, _ in cut]
    asked = []
    for text, (_, offsets), log_shares_TK in zip(
        texts, cut, predictor.by_row(_log_shares, rows), strict=True
    ):
        first = _first_tokens(words(text, between), offsets)
        of_words_NK = np.asarray(log_shares_TK[1:])[first]  # behind [CLS]; -1 is any
        asked.append(np.where((first >= 0)[:, None], of_words_NK, np.nan))
    return asked


def spans(
    objective: Tagging, texts: Sequence[str], asked: Sequence[np.ndarray], *, between: str = " "
) -> list[list[Span]]:
    """(first character, one after the last, label) of every span of every text, in order, from the `scores`."""
    found = []
    for text, scores_NK in zip(texts, asked, strict=True):
        there = ~np.isnan(scores_NK[:, 0])
        places = [place for place, known in zip(words(text, between), there, strict=True) if known]
        found.append(_spans(places, scores_NK[there], objective))
    return found


@jax.jit
def _log_shares(module: Any, batch: Batch) -> jax.Array:
    return jax.nn.log_softmax(module.heads["tags"](module.encode(batch, None).x_BTD))


def words(text: str, between: str) -> list[tuple[int, int]]:
    """(first character, one after the last) of every word."""
    return [match.span() for match in re.finditer(r"\S+" if between else r"\S", text)]


def _first_tokens(places: list[tuple[int, int]], offsets: np.ndarray) -> np.ndarray:
    """The first token of every word; -1 of one that has none."""
    ends = offsets[:, 1] if len(offsets) else np.zeros(0, int)
    # The first token that ends behind it.
    first = np.searchsorted(ends, [start for start, _ in places], side="right")
    has = [t < len(offsets) and offsets[t, 0] < end for t, (_, end) in zip(first, places, strict=True)]
    return np.where(has, first, -1).astype(int)


def _spans(places: list[tuple[int, int]], scores_NK: np.ndarray, objective: Tagging) -> list[Span]:
    if objective.scheme == "words":
        best = scores_NK.argmax(axis=1) if len(places) else []
        return [(*place, objective.labels[int(k)]) for place, k in zip(places, best, strict=True)]
    found: list[Span] = []
    for (start, end), k in zip(places, likeliest(scores_NK), strict=True):
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
