"""Answers that stand in a text. In: questions with contexts, a model with a span head. Out: parts of the contexts.

A context is read in the windows of training, each alone in its row. The score of a part is that of its first token plus
that of its last; of a part in several windows the largest counts. "No answer" has in each window the score of [CLS] at
both ends, and of all windows the smallest.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch, Vocabulary
from jaxlm.data.rows.windows import Cut, context
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.infer import classify
from jaxlm.infer.predict import Predictor
from jaxlm.objectives import reading
from jaxlm.objectives.question_answering import QuestionAnswering

PER_WINDOW = 20  # parts of a window that are compared with those of others
CERTAIN = 1e9  # no answer, where there is no token
Scores = list[np.ndarray]  # of every window of a context, [1 + its tokens of the context, 2]: [CLS] first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A part of a context."""

    start: int  # its first character
    end: int  # one after its last
    score: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What is said of a question."""

    candidates: list[Candidate]  # the best first
    none_score: float  # of "no answer", less that of the best candidate


def scores(
    predictor: Predictor,
    objective: QuestionAnswering,
    items: Sequence[Sequence[str]],
    *,
    batch_size: int = 32,
) -> list[Scores]:
    """Of every (question, context) what the head says of each window's [CLS] and part of the context."""
    tokenizer, vocabulary = predictor.tokenizer, predictor.tokenizer.vocabulary
    ids = tokenizer.encode_batch([text for item in items for text in item])
    questions, contexts = ids[::2], ids[1::2]
    record, question, start, length = _parts(objective.cut(vocabulary), questions, contexts)
    rows = [
        vocabulary.framed(questions[k][:asked], contexts[k][first : first + n]).tolist()
        for k, asked, first, n in zip(record, question, start, length, strict=True)
    ]
    said = predictor.by_row(
        functools.partial(_judged, vocabulary=vocabulary),
        rows,
        targets=functools.partial(classify.nothing_known, vocabulary=vocabulary),
        batch_size=batch_size,
    )
    found: list[Scores] = [[] for _ in items]
    for k, asked, n, logits_T2 in zip(record, question, length, said, strict=True):
        first = context(vocabulary, asked)
        found[k].append(np.concatenate([logits_T2[:1], logits_T2[first : first + n]]))
    return found


def answers(
    tokenizer: Tokenizer,
    objective: QuestionAnswering,
    items: Sequence[Sequence[str]],
    said: Sequence[Scores],
    *,
    most: int = PER_WINDOW,
) -> list[Found]:
    """The best parts of every context, at most `most`, given the scores of its windows."""
    flat = tokenizer.encode_batch_with_offsets([text for item in items for text in item])
    ids = [one for one, _ in flat]
    record, _, start, _ = _parts(objective.cut(tokenizer.vocabulary), ids[::2], ids[1::2])
    begins: list[list[int]] = [[] for _ in items]
    for k, first in zip(record, start, strict=True):
        begins[k].append(first)
    return [
        _found(item[1], flat[2 * k + 1][1], begins[k], said[k], objective.answer_tokens, most)
        for k, item in enumerate(items)
    ]


def _judged(module: Any, batch: Batch, *, vocabulary: Vocabulary) -> jax.Array:
    """With the types of tokens."""
    return _logits(module, classify.typed(batch, vocabulary))


@jax.jit
def _logits(module: Any, batch: Batch) -> jax.Array:
    """logits_BT2."""
    encoded = reading.encode(module, batch, None, batch.targets.start_B)
    return module.heads["span"](encoded.x_BTD).astype(jnp.float32)


def _parts(cut: Cut, questions: Sequence[np.ndarray], contexts: Sequence[np.ndarray]) -> list[list[int]]:
    sizes = [np.array([len(one) for one in texts], np.int64) for texts in (questions, contexts)]
    return [values.tolist() for values in cut.parts(*sizes)]


def _found(
    context: str, offsets: np.ndarray, begins: list[int], said: Scores, longest: int, most: int
) -> Found:
    best: dict[tuple[int, int], float] = {}
    for begin, window_T2 in zip(begins, said, strict=True):
        for first, last, score in spans(window_T2[1:], longest, PER_WINDOW):
            place = _trimmed(context, int(offsets[begin + first, 0]), int(offsets[begin + last, 1]))
            if place[0] < place[1]:
                best[place] = max(score, best.get(place, -np.inf))
    ranked = sorted(best.items(), key=lambda one: (-one[1], one[0]))[:most]
    if not ranked:
        return Found(candidates=[], none_score=CERTAIN)
    none = min(float(window_T2[0].sum()) for window_T2 in said)
    candidates = [Candidate(start=a, end=b, score=score) for (a, b), score in ranked]
    return Found(candidates=candidates, none_score=none - candidates[0].score)


def spans(scores_T2: np.ndarray, longest: int, most: int) -> list[tuple[int, int, float]]:
    """(first token, last, score) of the `most` best of all spans of up to `longest` tokens, the best first."""
    tokens = len(scores_T2)
    if not tokens:
        return []
    longest = min(longest, tokens)
    ends_T = np.concatenate([scores_T2[:, 1], np.full(longest - 1, -np.inf)])
    total_TN = scores_T2[:, :1] + np.lib.stride_tricks.sliding_window_view(ends_T, longest)
    order = np.argsort(-total_TN, axis=None, kind="stable")[:most].tolist()
    places = [divmod(one, longest) for one in order]
    return [(t, t + n, float(total_TN[t, n])) for t, n in places if np.isfinite(total_TN[t, n])]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space at its ends, which tokens of some vocabularies begin with."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
