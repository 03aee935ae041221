"""How well spans are found. In: right and predicted spans of texts. Out: `Sampled`: intervals by name.

A span is right when its first and last character and its label are (exact match, as conlleval and seqeval count). 95 %
intervals are bootstrapped over texts.
"""

import collections
from collections.abc import Sequence

import numpy as np

from jaxlm.data.corpus.record import Span
from jaxlm.evaluate.classes import Sampled, precision_recall_f1, resampled

_Texts = Sequence[Sequence[Span]]


def metrics(right: _Texts, predicted: _Texts, labels: Sequence[str]) -> Sampled:
    """precision, recall, f1 (over all spans together), macro_f1 (over labels that occur, or were predicted)."""
    counts_NL3 = _counts(right, predicted, labels)
    return resampled(len(counts_NL3), lambda items: _values(counts_NL3[items].sum(axis=0)))


def table(right: _Texts, predicted: _Texts, labels: Sequence[str]) -> str:
    """Precision, recall, F1 and right spans of every label."""
    width = max(len("label"), *map(len, labels))
    lines = [f"{'label':<{width}}  precision  recall      F1   spans"]
    for label, (hit, given, there) in zip(labels, _counts(right, predicted, labels).sum(axis=0), strict=True):
        precision, recall, f1 = precision_recall_f1(hit, given, there)
        lines.append(f"{label:<{width}}     {precision:6.4f}  {recall:6.4f}  {f1:6.4f}  {there:6,}")
    return "\n".join(lines)


def _counts(right: _Texts, predicted: _Texts, labels: Sequence[str]) -> np.ndarray:
    """[texts, labels, 3]: found and right, found, right."""
    place = {label: i for i, label in enumerate(labels)}
    counts_NL3 = np.zeros((len(right), len(labels), 3), np.int64)
    for n, (truth, found) in enumerate(zip(right, predicted, strict=True)):
        for k, group in enumerate((set(truth) & set(found), set(found), set(truth))):
            for label, number in collections.Counter(label for *_, label in group).items():
                counts_NL3[n, place[label], k] = number
    return counts_NL3


def _values(counts_L3: np.ndarray) -> dict[str, float]:
    precision, recall, f1 = precision_recall_f1(*counts_L3.sum(axis=0))
    seen = counts_L3.sum(axis=1) > 0
    macro = float(precision_recall_f1(*counts_L3[seen].T)[2].mean()) if seen.any() else 0.0
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "macro_f1": macro}
