"""How well numbers follow others. In: right numbers, predicted ones. Out: `Interval`s by name, defined as scipy's."""

from collections.abc import Sequence

import numpy as np

from jaxlm.evaluate.classes import Sampled, resampled

NAMES = ("pearson", "spearman", "mse", "mae")


def metrics(right_N: np.ndarray, found_N: np.ndarray, names: Sequence[str] = NAMES) -> Sampled:
    """pearson, spearman (of ranks, equal values share theirs), mse, mae; a correlation with a constant is 0. Of numbers
    in two units only the correlations mean anything: `names`."""
    right_N, found_N = right_N.astype(np.float64), found_N.astype(np.float64)

    def measure(items: np.ndarray) -> dict[str, float]:
        found = _values(right_N[items], found_N[items])
        return {name: found[name] for name in names}

    return resampled(len(right_N), measure)


def pearson(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Covariance over the product of the deviations."""
    a_N, b_N = a_N - a_N.mean(), b_N - b_N.mean()
    spread = np.sqrt((a_N @ a_N) * (b_N @ b_N))
    return float(a_N @ b_N / spread) if spread > 0 else 0.0


def ranks(values_N: np.ndarray) -> np.ndarray:
    """1 for the smallest; equal values have the mean of their places."""
    _, group, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[group]


def _values(right_N: np.ndarray, found_N: np.ndarray) -> dict[str, float]:
    away_N = found_N - right_N
    return {
        "pearson": pearson(right_N, found_N),
        "spearman": pearson(ranks(right_N), ranks(found_N)),
        "mse": float((away_N**2).mean()),
        "mae": float(np.abs(away_N).mean()),
    }
