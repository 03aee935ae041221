"""The baseline every language model must beat. In: counts of the training split, an evaluation's targets. Out: nats.

A unigram model knows only how frequent each token is; a model whose loss is not well below its cross-entropy on the
same targets has learned nothing from context.
"""

from collections.abc import Iterable

import numpy as np

from jaxlm.data.rows.items import Shards
from jaxlm.objectives.targets import TokenTargets


def count_tokens(documents: Iterable[np.ndarray], vocabulary_size: int) -> np.ndarray:
    """counts_V, int64: how often each id occurs."""
    counts_V = np.zeros(vocabulary_size, np.int64)
    for tokens in documents:
        # Distinct ids only: a bincount per document would cost the whole vocabulary each time
        ids, found = np.unique(tokens, return_counts=True)
        counts_V[ids] += found
    return counts_V


def counts(train: Shards, vocabulary_size: int, limit: int = 50_000_000) -> np.ndarray:
    """counts_V of a training split, from its first `limit` tokens."""
    last = int(np.searchsorted(np.cumsum(train.lengths, dtype=np.int64), limit)) + 1
    last = min(last, len(train))
    blocks = (range(k, min(k + 1024, last)) for k in range(0, last, 1024))
    return count_tokens((tokens for block in blocks for tokens in train.__getitems__(block)), vocabulary_size)


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
