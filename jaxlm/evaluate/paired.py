"""Whether one model is better than another on the same items. In: their metrics. Out: differences, how sure they are.

The interval is that of the paired bootstrap: both models are measured on the same items, drawn anew. p is of McNemar's
exact test where the metric is a mean of rights and wrongs (accuracy, exact match), else of approximate randomisation
(Noreen 1989; Yeh 2000): the answers of the two change places at random, item by item, and the metric is computed again.
"""

import dataclasses
import math

import numpy as np

from jaxlm.evaluate.classes import Measure, Sampled

_DRAWN = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """The first model less the second."""

    one: float
    other: float
    value: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided: of a difference as large between models that are equally good
    test: str  # which gives p

    def __str__(self) -> str:
        sides = f"{self.one:.4f}  {self.other:.4f}"
        return (
            f"{sides}  {self.value:+.4f}  [{self.low:+.4f}, {self.high:+.4f}]  p = {self.p:.4f} ({self.test})"
        )


def compared(both: Sampled, *, seed: int = 0) -> dict[str, Difference]:
    """Every metric. `both`: of 2 n items, the first n with the answers of one model, then those of the other."""
    number, rng, measure = both.number // 2, np.random.default_rng(seed), both.measure
    every = np.arange(number)
    one, other = measure(every), measure(every + number)
    drawn, swapped = [], []
    for _ in range(_DRAWN):
        items = rng.integers(number, size=number)
        drawn.append(_difference(measure, items, items + number))
        places = np.where(rng.random(number) < 0.5, every, every + number)
        swapped.append(_difference(measure, places, (places + number) % (2 * number)))
    alone = [measure(np.array([i])) for i in range(2 * number)]
    some = rng.integers(2 * number, size=number)  # a mean is one of any items
    found, of_some = {}, measure(some)
    for name, value in one.items():
        difference = value - other[name]
        low, high = np.percentile([each[name] for each in drawn], [2.5, 97.5])
        hits = np.array([each[name] for each in alone])
        if _is_share(hits, (value + other[name]) / 2) and _is_share(hits[some], of_some[name]):
            p, test = mcnemar(hits[:number] > 0, hits[number:] > 0), "McNemar, exact"
        else:
            # Rounding is no difference.
            larger = sum(abs(each[name]) >= abs(difference) * (1 - 1e-9) for each in swapped)
            p, test = (1 + larger) / (1 + _DRAWN), "approximate randomisation"
        bounds = {"low": float(low), "high": float(high)}
        found[name] = Difference(one=value, other=other[name], value=difference, **bounds, p=p, test=test)
    return found


def of_groups(one: Sampled, other: Sampled, *, seed: int = 0) -> dict[str, Difference]:
    """Every metric of two models whose items are drawn in the same groups, such as questions about one text; p is that
    of the bootstrap: twice the share of resamples on the other side of 0."""
    rng, every, found = np.random.default_rng(seed), np.arange(one.number), {}
    here, there = one.measure(every), other.measure(every)
    draws = [rng.integers(one.number, size=one.number) for _ in range(_DRAWN)]
    pairs = [(one.measure(items), other.measure(items)) for items in draws]
    for name, value in here.items():
        drawn = np.array([a[name] - b[name] for a, b in pairs])
        low, high = np.percentile(drawn, [2.5, 97.5])
        p = min(1.0, 2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + _DRAWN))
        bounds = {"low": float(low), "high": float(high), "p": float(p), "test": "bootstrap over groups"}
        found[name] = Difference(one=value, other=there[name], value=value - there[name], **bounds)
    return found


def mcnemar(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """p that items which only one of two got right fall so unevenly by chance: the binomial test, two-sided."""
    only, lacking = int((one_N & ~other_N).sum()), int((other_N & ~one_N).sum())
    number, least = only + lacking, min(only, lacking)
    tail = sum(math.comb(number, k) for k in range(least + 1))
    return min(1.0, 2 * tail / 2**number)


def _difference(measure: Measure, one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    a, b = measure(one), measure(other)
    return {name: a[name] - b[name] for name in a}


def _is_share(alone_N: np.ndarray, whole: float) -> bool:
    """Whether a metric is the mean over items of 0 or 1."""
    return bool(np.isin(alone_N, (0.0, 1.0)).all()) and math.isclose(alone_N.mean(), whole, abs_tol=1e-9)
