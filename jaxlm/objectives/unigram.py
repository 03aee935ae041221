"""The baseline every language model must beat. In: token counts of the training split, evaluation batches. Out: nats.

A unigram model knows only how frequent each token is; a model whose loss is not well below its cross-entropy on the
same targets has learned nothing from context.
"""

from collections.abc import Iterable

import numpy as np

from jaxlm.batch import Batch


def count_tokens(documents: Iterable[np.ndarray], vocabulary_size: int) -> np.ndarray:
    """counts_V, int64: how often each id occurs."""
    counts_V = np.zeros(vocabulary_size, np.int64)
    for tokens in documents:
        # Distinct ids only: a bincount per document would cost the whole vocabulary each time
        ids, found = np.unique(tokens, return_counts=True)
        counts_V[ids] += found
    return counts_V


def unigram_cross_entropy(counts_V: np.ndarray, batches: Iterable[Batch]) -> float:
    """Nats per predicted token of p(id) = (count + 1) / (all + V); NaN when nothing is predicted."""
    nats_V = np.log(counts_V.sum() + len(counts_V)) - np.log(counts_V + 1.0)
    total = weight = 0.0
    for batch in batches:
        weights_BM = np.asarray(batch.weights_BM, np.float64)
        total += float((nats_V[np.asarray(batch.targets_BM)] * weights_BM).sum())
        weight += float(weights_BM.sum())
    return total / weight if weight else float("nan")
