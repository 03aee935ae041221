"""The baseline every language model must beat. In: counts of the training split, an evaluation's targets. Out: nats.

A unigram model knows only how frequent each token is; a model whose loss is not well below its cross-entropy on the
same targets has learned nothing from context.
"""

from collections.abc import Iterable

import numpy as np

from jaxlm.objectives.targets import TokenTargets


def count_tokens(documents: Iterable[np.ndarray], vocabulary_size: int) -> np.ndarray:
    """counts_V, int64: how often each id occurs."""
    counts_V = np.zeros(vocabulary_size, np.int64)
    for tokens in documents:
        # Distinct ids only: a bincount per document would cost the whole vocabulary each time
        ids, found = np.unique(tokens, return_counts=True)
        counts_V[ids] += found
    return counts_V


def unigram_cross_entropy(
    counts_V: np.ndarray, asked: Iterable[TokenTargets], special_V: np.ndarray | None = None
) -> float:
    """Nats per predicted token of p(id) = (count + 1) / (all + V); NaN when nothing is predicted.

    Text never has special tokens, but some objectives predict them (eos, sentinels, markers): those in `special_V` get
    the share they have among the targets themselves, so that the baseline is not weaker than it could be.
    """
    targets_V = np.zeros(len(counts_V))
    for targets in asked:
        weights = np.asarray(targets.weights_BM, np.float64).ravel()
        targets_V += np.bincount(np.asarray(targets.ids_BM).ravel(), weights, minlength=len(counts_V))
    total = targets_V.sum()
    if not total:
        return float("nan")
    smooth_V = counts_V + 1.0
    special = np.zeros(len(counts_V), bool) if special_V is None else special_V & (targets_V > 0)
    share = targets_V[special].sum() / total
    p_V = smooth_V * (1.0 - share) / smooth_V.sum()
    p_V[special] = targets_V[special] / total
    seen = targets_V > 0
    return float(-(targets_V[seen] * np.log(p_V[seen])).sum() / total)
