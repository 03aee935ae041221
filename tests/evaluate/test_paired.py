"""Claims about paired tests: p of exact and counted definitions, intervals that cover, and no difference found where there is none."""

import itertools

import numpy as np
import pytest

from jaxlm.evaluate import classes, paired, spans
from tests.evaluate.test_classes import drawn


def both(right, one, other):
    return classes.metrics(np.tile(right, 2), np.concatenate([one, other]))


def test_mcnemar_is_the_binomial_test_of_the_items_that_only_one_got_right():
    stats = pytest.importorskip("scipy.stats", reason="needs the extra `parity` (scipy)")
    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.6):
        one, other = rng.random(200) < 0.6, rng.random(200) < share
        only, lacking = int((one & ~other).sum()), int((other & ~one).sum())
        expected = stats.binomtest(only, only + lacking, 0.5).pvalue
        assert paired.mcnemar(one, other) == pytest.approx(expected, rel=1e-9)
    assert paired.mcnemar(one, one) == 1.0


def test_accuracy_has_mcnemars_p_and_the_interval_of_differences_item_by_item():
    right, one = drawn(400, seed=1, skill=2.0)
    other = drawn(400, seed=1, skill=1.0)[1]
    found = paired.compared(both(right, one, other))["accuracy"]
    hits = [shares.argmax(axis=1) == right for shares in (one, other)]
    assert found.test.startswith("McNemar") and found.p == pytest.approx(paired.mcnemar(*hits))
    differences = hits[0].astype(float) - hits[1]
    assert found.value == pytest.approx(differences.mean())
    assert not paired.compared(both(right, one, one))["macro_f1"].test.startswith("McNemar")
    half = 1.96 * differences.std() / 20  # of a mean of 400
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.008)


def test_randomisation_counts_as_all_exchanges_of_a_few_items_do():
    """F1 of spans, 8 texts: all 256 exchanges against 1,000 drawn ones."""
    right = [((0, 1, "x"), (2, 3, "y"))] * 8
    one = [right[0]] * 6 + [()] * 2
    other = [right[0][:1]] * 5 + [((5, 6, "x"),)] * 3
    found = paired.compared(spans.metrics(right * 2, one + other, ("x", "y")))["f1"]

    def f1(some):
        hit = sum(len(set(a) & set(b)) for a, b in zip(right, some, strict=True))
        return 2 * hit / (sum(map(len, right)) + sum(map(len, some)))

    seen = abs(f1(one) - f1(other))
    gaps = []
    for signs in itertools.product((False, True), repeat=8):
        first = [b if s else a for s, a, b in zip(signs, one, other, strict=True)]
        second = [a if s else b for s, a, b in zip(signs, one, other, strict=True)]
        gaps.append(abs(f1(first) - f1(second)) >= seen - 1e-12)
    assert found.test == "approximate randomisation"
    assert found.p == pytest.approx(np.mean(gaps), abs=0.04)


def test_equal_models_differ_seldom_and_a_better_one_is_seen():
    seldom = 0
    for seed in range(8):
        right = drawn(150, seed)[0]
        rng = np.random.default_rng(seed)
        noise = [rng.normal(size=(150, 4)) + np.eye(4)[right] for _ in range(2)]
        shares = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in noise]
        seldom += paired.compared(both(right, *shares))["nll"].p < 0.05
    assert seldom <= 2  # of 8 by chance more than that: p < 0.006
    right, good = drawn(150, 0, skill=3.0)
    better = paired.compared(both(right, good, drawn(150, 0, skill=0.5)[1]))["macro_f1"]
    assert better.p < 0.01 and 0 < better.low < better.value < better.high


def test_groups_are_drawn_whole():
    """Eight groups of 25 equal items: the interval is that of eight items, not of two hundred."""
    rng = np.random.default_rng(0)
    one, other = (np.repeat(rng.normal(mean, 1.0, 8), 25).reshape(8, 25) for mean in (1.0, 0.0))
    sides = [
        classes.resampled(8, lambda groups, v=v: {"mean": float(v[groups].mean())}) for v in (one, other)
    ]
    found = paired.of_groups(*sides)["mean"]
    differences = (one - other).mean(axis=1)
    half = 1.96 * differences.std() / np.sqrt(8)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.35 * half)
    assert found.value == pytest.approx(differences.mean()) and 0 < found.p < 0.05
    assert paired.of_groups(sides[0], sides[0])["mean"].p == 1.0
