"""How well sets of labels are found. In: right labels, probabilities. Out: `Interval`s by name, and thresholds.

Definitions are scikit-learn's; what is divided by nothing is 0.
"""

from collections.abc import Sequence

import numpy as np

from jaxlm.evaluate.classes import Sampled, precision_recall_f1, resampled

NAMES = ("micro_f1", "macro_f1", "subset_accuracy", "average_precision")


def metrics(right_NK: np.ndarray, shares_NK: np.ndarray, from_K: np.ndarray) -> Sampled:
    """micro_f1, macro_f1 (over all labels), subset_accuracy (all labels of an item right), average_precision (mean over
    labels that occur). `right_NK`: bool; a label is given from `from_K` on."""
    return resampled(len(right_NK), lambda items: _values(right_NK[items], shares_NK[items], from_K))


def average_precision(right_N: np.ndarray, shares_N: np.ndarray) -> float:
    """Sum of precision x gain of recall, from the largest share on; items of one share come together."""
    _, given, hits = _ranked(right_N, shares_N)
    gains = np.diff(hits, prepend=0) / max(hits[-1], 1)
    return float((hits / given * gains).sum())


def thresholds(right_NK: np.ndarray, shares_NK: np.ndarray) -> np.ndarray:
    """[K]: of every label the smallest share from which on giving it has the best F1; 0.5 of one that never occurs."""
    return np.array([_best(r, s) for r, s in zip(right_NK.T, shares_NK.T, strict=True)])


def threshold(right_NK: np.ndarray, shares_NK: np.ndarray) -> float:
    """The same of all labels together: the best micro F1."""
    return _best(right_NK.ravel(), shares_NK.ravel())


def table(names: Sequence[str], right_NK: np.ndarray, shares_NK: np.ndarray, from_K: np.ndarray) -> str:
    """Precision, recall, F1 and items of every label."""
    given_NK = shares_NK >= from_K
    each = precision_recall_f1(*_counts(right_NK, given_NK))
    width = max(len("label"), *map(len, names))
    lines = [f"{'label':<{width}}  precision  recall      F1   items  given from"]
    for name, p, r, f1, there, least in zip(names, *each, right_NK.sum(axis=0), from_K, strict=True):
        lines.append(f"{name:<{width}}     {p:6.4f}  {r:6.4f}  {f1:6.4f}  {there:6,}  {least:.3f}")
    return "\n".join(lines)


def _values(right_NK: np.ndarray, shares_NK: np.ndarray, from_K: np.ndarray) -> dict[str, float]:
    given_NK = shares_NK >= from_K
    hit, given, there = _counts(right_NK, given_NK)
    occurs = np.flatnonzero(there)
    precisions = [average_precision(right_NK[:, k], shares_NK[:, k]) for k in occurs]
    return {
        "micro_f1": float(precision_recall_f1(hit.sum(), given.sum(), there.sum())[2]),
        "macro_f1": float(precision_recall_f1(hit, given, there)[2].mean()),
        "subset_accuracy": float((given_NK == right_NK).all(axis=1).mean()),
        "average_precision": float(np.mean(precisions)) if precisions else 0.0,
    }


def _counts(right_NK: np.ndarray, given_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (right_NK & given_NK).sum(axis=0), given_NK.sum(axis=0), right_NK.sum(axis=0)


def _best(right_N: np.ndarray, shares_N: np.ndarray) -> float:
    if not right_N.any():
        return 0.5
    shares, given, hits = _ranked(right_N, shares_N)
    return float(shares[np.argmax(2 * hits / (given + right_N.sum()))])


def _ranked(right_N: np.ndarray, shares_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every share that occurs, from the largest on; items that are given from it on, and how many of them are right."""
    order = np.argsort(-shares_N, kind="stable")
    last = np.flatnonzero(np.append(np.diff(shares_N[order]) != 0, True))
    return shares_N[order][last], last + 1, np.cumsum(right_N[order])[last]
