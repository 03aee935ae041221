"""How well answers are found, by SQuAD's own rule. In: answers and right answers, as texts. Out: `Interval`s by name.

Texts are compared in lower case, without ASCII punctuation, without a, an and the, their white space collapsed (the
official evaluate-v1.1.py and evaluate-v2.0.py). `exact` is whether they are equal, `f1` that of their bags of words;
of several right answers the best counts. "": no answer, which only "" equals. Intervals are bootstrapped over groups
of questions, such as those about one text.
"""

import collections
import re
import string
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from jaxlm.evaluate.classes import Sampled, resampled

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")

NAMES = ("exact", "f1")
WITH_NONE = (
    *("has_answer_exact", "has_answer_f1", "no_answer_exact", "no_answer_f1"),
    *("best_exact", "best_exact_threshold", "best_f1", "best_f1_threshold"),
)
KEPT = "best_f1_threshold"  # what a model decides by, measured on held-out questions


def normalized(text: str) -> str:
    """As texts are compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_and_f1(answer: str, right: Sequence[str]) -> tuple[float, float]:
    """The best over the right answers; none of them, or none that is left when normalised: "" is right."""
    golds = [gold for gold in right if normalized(gold)] or [""]
    return (
        max(float(normalized(answer) == normalized(gold)) for gold in golds),
        max(_f1(normalized(answer).split(), normalized(gold).split()) for gold in golds),
    )


def metrics(answers: Sequence[str], right: Sequence[Sequence[str]], groups: Sequence[Hashable]) -> Sampled:
    """`exact` and `f1` of all questions; each with the group of its question."""
    values_N2 = _values(answers, right)
    return _clustered(
        groups, lambda items: dict(zip(NAMES, values_N2[items].mean(axis=0).tolist(), strict=True))
    )


def metrics_with_none(
    answers: Sequence[str],
    right: Sequence[Sequence[str]],
    groups: Sequence[Hashable],
    none_scores: Sequence[float],
    threshold: float,
) -> Sampled:
    """The same where a question may have no answer, as the official evaluate-v2.0.py has it, besides `WITH_NONE`.

    `answers`: the best of each question, which counts where `none_scores` is at most `threshold`, else "". The best
    thresholds are those that make `exact` and `f1` of these very questions largest.
    """
    scores_N = np.array(none_scores, np.float64)
    some_N2, none_N2 = _values(answers, right), _values([""] * len(answers), right)
    said_N2 = np.where((scores_N > threshold)[:, None], none_N2, some_N2)
    has_N = np.array([any(map(normalized, golds)) for golds in right])

    def values(items: np.ndarray) -> dict[str, float]:
        found = dict(zip(NAMES, said_N2[items].mean(axis=0).tolist(), strict=True))
        for name, these in (("has_answer", items[has_N[items]]), ("no_answer", items[~has_N[items]])):
            mean_2 = said_N2[these].mean(axis=0) if len(these) else np.zeros(2)
            found |= {f"{name}_{of}": float(mean_2[i]) for i, of in enumerate(NAMES)}
        for i, of in enumerate(NAMES):
            best, at = best_threshold(some_N2[items, i], none_N2[items, i], scores_N[items])
            found |= {f"best_{of}": best, f"best_{of}_threshold": at}
        return found

    return _clustered(groups, values)


def best_threshold(some_N: np.ndarray, none_N: np.ndarray, scores_N: np.ndarray) -> tuple[float, float]:
    """(the largest mean, its threshold) when questions count `some_N` with a score up to it and `none_N` above."""
    order = np.argsort(scores_N, kind="stable")
    totals = np.concatenate([[0.0], np.cumsum((some_N - none_N)[order])]) + none_N.sum()
    sorted_N = scores_N[order]
    # Between equal scores no threshold lies.
    can = np.concatenate([[True], np.append(sorted_N[1:] > sorted_N[:-1], True)])
    best = int(np.argmax(np.where(can, totals, -np.inf)))
    at = sorted_N[0] - 1.0 if best == 0 else sorted_N[best - 1]
    return float(totals[best] / len(scores_N)), float(at)


def _values(answers: Sequence[str], right: Sequence[Sequence[str]]) -> np.ndarray:
    """[N, 2]: exact and f1 of every question."""
    return np.array([exact_and_f1(*one) for one in zip(answers, right, strict=True)]).reshape(-1, 2)


def _f1(said: list[str], gold: list[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    shared = (collections.Counter(said) & collections.Counter(gold)).total()
    return 2.0 * shared / (len(said) + len(gold))


def _clustered(groups: Sequence[Hashable], values: Callable[[np.ndarray], Mapping[str, float]]) -> Sampled:
    """Whole groups are drawn."""
    members = collections.defaultdict(list)
    for n, group in enumerate(groups):
        members[group].append(n)
    each = [np.array(one) for one in members.values()]
    return resampled(len(each), lambda drawn: values(np.concatenate([each[g] for g in drawn.tolist()])))
