"""How well directed relations are found, by the rule of SemEval-2010 task 8. In: labels, numbers. Out: `Interval`s.

`Cause-Effect(e1,e2)` and `Cause-Effect(e2,e1)` are one relation: of it are right those with the right direction, given
and there are those of both. The F1 is the mean over relations, "Other" left out.
"""

import re
from collections.abc import Sequence

import numpy as np

from jaxlm.evaluate.classes import Sampled, precision_recall_f1, resampled

NAMES = ("f1", "precision", "recall", "accuracy")
OTHER = "Other"


def metrics(labels: Sequence[str], right_N: np.ndarray, found_N: np.ndarray) -> Sampled:
    """f1 (mean over relations, without Other; direction counts), precision, recall (means, too), accuracy."""
    relation_K, names = _relations(labels)
    own = np.array([k for k, name in enumerate(names) if name != OTHER])

    def measure(items: np.ndarray) -> dict[str, float]:
        right, found = right_N[items], found_N[items]
        count = lambda of: np.bincount(of, minlength=len(names))[own]
        hit = count(relation_K[right[right == found]])
        each = precision_recall_f1(hit, count(relation_K[found]), count(relation_K[right]))
        precision, recall, f1 = (float(one.mean()) for one in each)
        accuracy = float((right == found).mean())
        return {"f1": f1, "precision": precision, "recall": recall, "accuracy": accuracy}

    return resampled(len(right_N), measure)


def _relations(labels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """([labels]: number of its relation, names of the relations)."""
    undirected = [re.sub(r"\((e1,e2|e2,e1)\)$", "", label) for label in labels]
    names = sorted(set(undirected))
    return np.array([names.index(name) for name in undirected]), names
