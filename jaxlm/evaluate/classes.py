"""How well a classifier does, and how sure that is. In: right classes, probabilities. Out: `Interval`s by name.

Every metric has a 95 % interval: the 2.5 and 97.5 percentiles of its values on items drawn anew with replacement
(Efron's percentile bootstrap), seeded. Definitions are scikit-learn's.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

_RESAMPLES = 1000
_BINS = 15  # of the expected calibration error, of equal width (Guo et al., 1706.04599)


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f}  [{self.low:.4f}, {self.high:.4f}]"


# Numbers of items, any of them several times -> metrics
Measure = Callable[[np.ndarray], Mapping[str, float]]


class Sampled(Mapping[str, Interval]):
    """Metrics with their intervals, which are drawn when they are first read; `values_of_all` needs none. `measure`
    measures any of the items again: paired tests and groups of items do."""

    def __init__(self, number: int, measure: Measure, seed: int) -> None:
        self.number, self.measure, self._seed = number, measure, seed  # items, unless some belong together
        self.values_of_all = dict(measure(np.arange(number)))

    def __getitem__(self, name: str) -> Interval:
        return self._intervals[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_of_all)

    def __len__(self) -> int:
        return len(self.values_of_all)

    @functools.cached_property
    def _intervals(self) -> dict[str, Interval]:
        rng = np.random.default_rng(self._seed)
        drawn = [self.measure(rng.integers(self.number, size=self.number)) for _ in range(_RESAMPLES)]
        found = {}
        for name, value in self.values_of_all.items():
            low, high = np.percentile([one[name] for one in drawn], [2.5, 97.5])
            found[name] = Interval(value, float(low), float(high))
        return found


def metrics(right_N: np.ndarray, shares_NK: np.ndarray) -> Sampled:
    """accuracy, macro_f1 (over classes that occur, or were predicted), mcc (Matthews' correlation), nll (nats), brier
    (sum over classes), ece."""
    return resampled(len(right_N), lambda items: _values(right_N[items], shares_NK[items]))


def resampled(number: int, measure: Measure, *, seed: int = 0) -> Sampled:
    """What `measure` gives of all of so many items, with its interval."""
    return Sampled(number, measure, seed)


def confusion(right_N: np.ndarray, predicted_N: np.ndarray, classes: int) -> np.ndarray:
    """[classes, classes]: how many items of each class (rows) were given each (columns)."""
    return np.bincount(right_N * classes + predicted_N, minlength=classes**2).reshape(classes, classes)


def by_class(counts_KK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of every class, [K] each."""
    return precision_recall_f1(counts_KK.diagonal(), counts_KK.sum(axis=0), counts_KK.sum(axis=1))


def precision_recall_f1(
    hit: np.ndarray, given: np.ndarray, there: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of how many were given and right, given, and there; 0 where nothing is divided by nothing."""
    share = lambda part, whole: part / np.maximum(whole, 1)
    return share(hit, given), share(hit, there), share(2 * hit, given + there)


def reliability(hit_N: np.ndarray, share_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of bins of equal width: items, their mean probability, and how many of them are right, [15] each; 0 of none."""
    bins_N = np.minimum((share_N * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins_N, minlength=_BINS)
    mean = lambda value_N: np.bincount(bins_N, value_N, _BINS) / np.maximum(counts, 1)
    return counts, mean(share_N), mean(hit_N)


def table(names: Sequence[str], right_N: np.ndarray, predicted_N: np.ndarray) -> str:
    """Precision, recall, F1 and items of every class, and what its items were taken for most often."""
    counts = confusion(right_N, predicted_N, len(names))
    width = max(len("label"), *map(len, names))
    lines = [f"{'label':<{width}}  precision  recall      F1   items  most taken for"]
    for k, (precision, recall, f1) in enumerate(zip(*by_class(counts), strict=True)):
        others = np.where(np.arange(len(names)) == k, -1, counts[k])
        other = int(np.argmax(others))
        taken = f"{names[other]} ({counts[k, other]:,})" if counts[k, other] and other != k else "–"
        lines.append(
            f"{names[k]:<{width}}     {precision:6.4f}  {recall:6.4f}  {f1:6.4f}  {counts[k].sum():6,}  {taken}"
        )
    return "\n".join(lines)


def _values(right_N: np.ndarray, shares_NK: np.ndarray) -> dict[str, float]:
    items, classes = shares_NK.shape
    predicted_N = shares_NK.argmax(axis=1)
    counts = confusion(right_N, predicted_N, classes).astype(np.float64)
    seen = counts.sum(axis=0) + counts.sum(axis=1) > 0
    own_N = shares_NK[np.arange(items), right_N]
    squares_N = (shares_NK**2).sum(axis=1) - 2 * own_N + 1
    return {
        "accuracy": float(counts.trace() / items),
        "macro_f1": float(by_class(counts)[2][seen].mean()),
        "mcc": _matthews(counts),
        "nll": float(-np.log(np.maximum(own_N, np.finfo(np.float32).tiny)).mean()),
        "brier": float(squares_N.mean()),
        "ece": _calibration_error(predicted_N == right_N, shares_NK.max(axis=1)),
    }


def _matthews(counts: np.ndarray) -> float:
    """R_K of Gorodkin (2004); 0 where all items are of one class, or were given one."""
    there, given, items = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    spread = (items**2 - given @ given) * (items**2 - there @ there)
    return float((counts.trace() * items - there @ given) / np.sqrt(spread)) if spread else 0.0


def _calibration_error(hit_N: np.ndarray, share_N: np.ndarray) -> float:
    counts, shares, hits = reliability(hit_N, share_N)
    return float(np.abs(counts * (hits - shares)).sum() / len(hit_N))
