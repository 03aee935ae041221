"""Claims about the metrics of a classifier: scikit-learn's values, intervals that cover, and a table that is read whole."""

import itertools

import numpy as np
import pytest

from jaxlm.evaluate import classes

NAMES = ("a", "bb", "c", "never")


def drawn(items, seed=0, skill=1.5):
    """(right classes, probabilities) of a classifier with some skill; the last class does not occur."""
    rng = np.random.default_rng(seed)
    right = rng.integers(3, size=items)
    logits = rng.normal(size=(items, 4)) + skill * np.eye(4)[right]
    return right, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_values_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="needs the extra `parity` (scikit-learn)")
    for seed in range(5):
        right, shares = drawn(300, seed)
        predicted = shares.argmax(axis=1)
        found = classes._values(right, shares)
        seen = sorted({*right, *predicted})
        assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(right, predicted))
        assert found["macro_f1"] == pytest.approx(sklearn.f1_score(right, predicted, average="macro"))
        assert found["mcc"] == pytest.approx(sklearn.matthews_corrcoef(right, predicted))
        assert found["nll"] == pytest.approx(sklearn.log_loss(right, shares, labels=range(4)))
        assert found["brier"] == pytest.approx(((shares - np.eye(4)[right]) ** 2).sum(axis=1).mean())
        counts = classes.confusion(right, predicted, 4)
        assert np.array_equal(counts, sklearn.confusion_matrix(right, predicted, labels=range(4)))
        theirs = sklearn.precision_recall_fscore_support(right, predicted, labels=seen, zero_division=0)
        for ours, expected in zip(classes.by_class(counts), theirs[:3], strict=True):
            np.testing.assert_allclose(ours[seen], expected)


def test_the_calibration_error_is_the_mean_gap_of_fifteen_bins():
    right, shares = drawn(500)
    share, hit = shares.max(axis=1), shares.argmax(axis=1) == right
    edges = np.linspace(0, 1, 16)
    gap = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (share >= low) & (share < high)
        if inside.any():
            gap += inside.mean() * abs(hit[inside].mean() - share[inside].mean())
    assert classes._values(right, shares)["ece"] == pytest.approx(gap)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Accuracy of 200 items: in 60 of them the truth (of a large sample) lies outside about 3 times."""
    truth = classes._values(*drawn(200_000, seed=1))["accuracy"]
    found = [classes.metrics(*drawn(200, seed))["accuracy"] for seed in range(10, 70)]
    outside = sum(not one.low <= truth <= one.high for one in found)
    assert outside <= 9  # of 60 by chance more than that: p < 0.002
    width = np.mean([one.high - one.low for one in found])
    assert width == pytest.approx(2 * 1.96 * np.sqrt(truth * (1 - truth) / 200), rel=0.1)


def test_one_class_only_is_no_reason_to_divide_by_nothing():
    right, shares = np.zeros(5, int), np.tile([0.9, 0.1], (5, 1))
    found = classes.metrics(right, shares)
    assert found["accuracy"].value == 1.0 and found["mcc"].value == 0.0 and found["macro_f1"].value == 1.0
    assert all(np.isfinite([one.value, one.low, one.high]).all() for one in found.values())


def test_the_table_has_a_line_for_every_class():
    right, shares = drawn(300)
    lines = classes.table(NAMES, right, shares.argmax(axis=1)).splitlines()
    assert [line.split()[0] for line in lines] == ["label", *NAMES]
    assert lines[-1].split()[1:5] == ["0.0000", "0.0000", "0.0000", "0"] and lines[-1].endswith("–")
