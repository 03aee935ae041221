"""Spans in texts: entities, or words with a part of speech. In: texts, a tagger. Out: scores of words, and `Span`s.

A word is what stands between spaces (with `between=""` of the run's column every letter), and has the tag of its first
token. Of BIO tags the likeliest sequence is taken among those that can be: I-x follows B-x or I-x (Viterbi). Words
behind `max_tokens` have none.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.data.corpus.record import Span
from jaxlm.infer.predict import Predictor
from jaxlm.objectives import crf
from jaxlm.objectives.crf import Chain, CrfTagging
from jaxlm.objectives.tagging import Tagging


def scores(
    predictor: Predictor, objective: Tagging, texts: Sequence[str], *, between: str = " "
) -> list[np.ndarray]:
    """Of every word of every text a score for each tag, [words, K]; NaN of a word that has none.

    They are log-probabilities; with a chain they are logits, to be judged together with it.
    """
    tokenizer, vocabulary = predictor.tokenizer, predictor.tokenizer.vocabulary
    found = tokenizer.encode_batch_with_offsets(list(texts))
    cut = [(ids[: objective.max_tokens], offsets[: objective.max_tokens]) for ids, offsets in found]
    begin, _ = vocabulary.marks
    rows = [vocabulary.framed(ids).tolist() for ids, _ in cut]
    asked = []
    program = _logits if isinstance(objective, CrfTagging) else _log_shares
    for text, (_, offsets), log_shares_TK in zip(texts, cut, predictor.by_row(program, rows), strict=True):
        first = _first_tokens(words(text, between), offsets)
        of_words_NK = np.asarray(log_shares_TK[len(begin) :])[first]  # behind [CLS]; -1 is any
        asked.append(np.where((first >= 0)[:, None], of_words_NK, np.nan))
    return asked


def chain(predictor: Predictor) -> dict[str, np.ndarray]:
    """What the model has learned of tags that follow each other."""
    return jax.device_get(predictor.module.heads["transitions"]())


def spans(
    objective: Tagging,
    texts: Sequence[str],
    asked: Sequence[np.ndarray],
    *,
    between: str = " ",
    chains: Sequence[Chain] = (),
) -> list[list[Span]]:
    """(first character, one after the last, label) of every span of every text, in order, from the `scores`.

    `chains`: of every text what its tags add to each other's scores; (): nothing.
    """
    found = []
    legal = crf.allowed(len(objective.tags), objective.scheme)
    for i, (text, scores_NK) in enumerate(zip(texts, asked, strict=True)):
        there = ~np.isnan(scores_NK[:, 0])
        places = [place for place, known in zip(words(text, between), there, strict=True) if known]
        together = {name: legal[name] + chains[i][name] for name in legal} if chains else legal
        found.append(_spans(places, scores_NK[there], objective, together))
    return found


@jax.jit
def _logits(module: Any, batch: Batch) -> jax.Array:
    return module.heads["tags"](module.encode(batch, None).x_BTD)


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


def _spans(
    places: list[tuple[int, int]], scores_NK: np.ndarray, objective: Tagging, chain: Chain
) -> list[Span]:
    tags = likeliest(scores_NK, chain)
    if objective.scheme == "words":
        return [(*place, objective.labels[k]) for place, k in zip(places, tags, strict=True)]
    found: list[Span] = []
    for (start, end), k in zip(places, tags, strict=True):
        if k % 2:
            found.append((start, end, objective.labels[k // 2]))
        elif k:
            found[-1] = (found[-1][0], end, found[-1][2])
    return found


def likeliest(scores_NK: np.ndarray, chain: Chain) -> list[int]:
    """The sequence of tags with the largest sum of scores, those of the chain included (Viterbi)."""
    if not len(scores_NK):
        return []
    total_K = chain["first"] + scores_NK[0]
    before: list[np.ndarray] = []
    for scores_K in scores_NK[1:]:
        through_KK = total_K[:, None] + chain["between"]
        before.append(through_KK.argmax(axis=0))
        total_K = through_KK.max(axis=0) + scores_K
    path = [int((total_K + chain["last"]).argmax())]
    for step_K in reversed(before):
        path.append(int(step_K[path[-1]]))
    return path[::-1]
