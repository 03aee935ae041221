"""Metrics of label sets, scores and relations: scikit-learn's and scipy's values, and the official rule by hand."""

import numpy as np
import pytest

from jaxlm.evaluate import correlation, label_sets, relations

RNG = np.random.default_rng(0)


def test_correlations_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    right = RNG.integers(0, 6, 80).astype(float)  # with ties
    found = right + RNG.normal(0, 2, 80).round(1)
    ours = correlation.metrics(right, found)
    assert ours["pearson"].value == pytest.approx(stats.pearsonr(right, found).statistic)
    assert ours["spearman"].value == pytest.approx(stats.spearmanr(right, found).statistic)
    assert ours["pearson"].low < ours["pearson"].value < ours["pearson"].high
    assert ours["mse"].value == pytest.approx(((right - found) ** 2).mean())
    assert correlation.pearson(np.ones(4), np.arange(4.0)) == 0.0


def test_label_sets_are_measured_as_by_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra `parity` (scikit-learn)")
    right = RNG.random((60, 4)) < [0.5, 0.2, 0.1, 0.0]
    shares = np.clip(right * 0.4 + RNG.random((60, 4)) * 0.6, 0, 1).round(1)  # with ties
    least = np.array([0.5, 0.4, 0.3, 0.9])
    ours = label_sets.metrics(right, shares, least)
    given = shares >= least
    f1 = {kind: metrics.f1_score(right, given, average=kind, zero_division=0) for kind in ("micro", "macro")}
    assert ours["micro_f1"].value == pytest.approx(f1["micro"])
    assert ours["macro_f1"].value == pytest.approx(f1["macro"])
    assert ours["subset_accuracy"].value == pytest.approx(metrics.accuracy_score(right, given))
    each = [metrics.average_precision_score(right[:, k], shares[:, k]) for k in range(3)]
    assert ours["average_precision"].value == pytest.approx(np.mean(each))


def test_a_threshold_has_the_best_f1_of_all():
    right = RNG.random((50, 3)) < [0.4, 0.1, 0.0]
    shares = np.clip(right * 0.3 + RNG.random((50, 3)) * 0.7, 0, 1).round(2)
    f1 = lambda k, least: (
        2
        * (right[:, k] & (shares[:, k] >= least)).sum()
        / ((shares[:, k] >= least).sum() + right[:, k].sum())
    )
    found = label_sets.thresholds(right, shares)
    for k in range(2):
        assert f1(k, found[k]) == max(f1(k, least) for least in np.unique(shares[:, k]))
    assert found[2] == 0.5


def test_relations_count_direction_and_leave_other_out():
    """By hand: A has 3 items and 3 given, 1 of them in the right direction; B 1 and 2, 1 right; Other is no relation."""
    labels = ("A(e1,e2)", "A(e2,e1)", "B", "Other")
    right = np.array([0, 0, 1, 2, 3])
    found = np.array([0, 1, 2, 2, 1])
    ours = relations.metrics(labels, right, found)
    f1 = [2 * 1 / (3 + 3), 2 * 1 / (2 + 1)]
    assert ours["f1"].value == pytest.approx(np.mean(f1))
    assert ours["precision"].value == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert ours["recall"].value == pytest.approx((1 / 3 + 1) / 2)
    assert ours["accuracy"].value == pytest.approx(2 / 5)
