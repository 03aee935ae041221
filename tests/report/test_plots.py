"""Claim: long curves keep what stands out, means keep their place, axes have round numbers within their bounds."""

import math

import numpy as np
import pytest

from jaxlm.report import plot
from jaxlm.report.curves import Series
from jaxlm.report.scale import Scale, around, short


def series(values) -> Series:
    return Series(0, "train", "train/loss", list(range(len(values))), list(values))


def test_a_long_curve_keeps_its_ends_and_extremes_as_measured():
    values = np.random.default_rng(0).normal(size=50_000).tolist()
    values[17_171], values[40_404], values[123] = 99.0, -99.0, None
    one = plot._thinned(series(values))
    assert len(one.steps) <= plot._POINTS + 2 and one.steps == sorted(set(one.steps))
    assert [values[step] for step in one.steps] == one.values
    assert {0, 17_171, 40_404, 49_999} <= set(one.steps)
    assert plot._thinned(series([None] * 5000)).values.count(None) > 100


def test_the_mean_over_neighbours_leaves_a_straight_line_straight():
    line = [3.0 * k + 1 for k in range(500)]
    assert plot._smoothed(series(line)).values == pytest.approx(line)
    noisy = np.sin(np.arange(500)).tolist()
    assert np.std(plot._smoothed(series(noisy)).values) < 0.2 * np.std(noisy)
    assert plot._smoothed(series([1.0] * 10)) is None and plot._smoothed(series([*line, None])) is None


@pytest.mark.parametrize(
    "low,high", [(0.0, 1.0), (3.7, 8.3), (-2e-6, 5e-6), (1e-5, 1e4), (5.0, 5.0), (0.0, 0.0)]
)
@pytest.mark.parametrize("log", [False, True])
def test_ticks_are_round_few_and_within(low, high, log):
    scale = around([low, high], log=log)
    if scale is None:
        assert log and high <= 0
        return
    ticks = scale.ticks(5)
    assert 1 <= len(ticks) <= 8 and ticks == sorted(set(ticks))
    for tick in ticks:
        assert -1e-9 <= scale.at(tick) <= 1 + 1e-9
        digits = f"{abs(tick):.10e}".partition("e")[0].rstrip("0.")
        assert len(digits.replace(".", "")) <= 4, tick
    for value in {low, high} - ({low} if log and low <= 0 else set()):
        assert 0.0 <= scale.at(value) <= 1.0
    middle = (math.sqrt(scale.low * scale.high)) if log else (scale.low + scale.high) / 2
    assert scale.at(middle) == pytest.approx(0.5)


def test_numbers_beside_an_axis_are_short():
    shown = {0.0: "0", 5e-4: "5e-4", 0.25: "0.25", 1200.0: "1,200", 20_000.0: "20k", 2.5e6: "2.5M"}
    assert {value: short(value) for value in shown} == shown
    assert short(0.3, percent=True) == "30%"


def test_marks_are_named_where_there_is_room():
    marks = [plot.Mark(step, "resumed") for step in range(0, 1000, 10)]
    named = list(plot._named(plot.Sheet(x=Scale(0.0, 1000.0), names=["a"], marks=marks)))
    assert 10 < len(named) < 20 and all("resumed" in one for one in named)
