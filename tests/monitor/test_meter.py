"""Sums between log lines: exact over an interruption, each line covers its own steps, no waiting for the newest."""

import json
import math

import jax.numpy as jnp
import numpy as np

from jaxlm.monitor.meter import Meter


def measures(step: int) -> dict:
    rng = np.random.default_rng(step)
    weight = np.float32(rng.integers(1, 50))
    return {
        "loss": (jnp.float32(rng.normal() * weight), jnp.float32(weight)),
        "useful_tokens": (jnp.float32(100 + step), jnp.float32(1.0)),
        "rare": (jnp.float32(step if step == 3 else 0.0), jnp.float32(step == 3)),
    }


def run(meter: Meter, first: int, last: int) -> list:
    lines = []
    for step in range(first, last + 1):
        lines += meter.add(step, measures(step))
    return lines + meter.drain()


def test_means_are_weighted_and_sums_are_totals():
    (line,) = run(Meter(5, lag=0), 1, 5)
    pairs = [measures(s)["loss"] for s in range(1, 6)]
    total, weight = 0.0, 0.0
    for t, w in pairs:
        total, weight = total + float(t), weight + float(w)
    assert line.means["loss"] == total / weight
    assert line.sums["useful_tokens"] == sum(100 + s for s in range(1, 6))
    assert line.last["useful_tokens"] == 105
    assert line.means["rare"] == line.last["rare"] == 3.0
    assert (line.step, line.steps) == (5, 5)


def test_a_measure_without_weight_is_left_out():
    (line,) = run(Meter(2, lag=0), 1, 2)
    assert "rare" not in line.means and "rare" not in line.last


def test_lines_do_not_depend_on_the_lag():
    assert run(Meter(4, lag=0), 1, 17) == run(Meter(4, lag=3), 1, 17)


def test_the_newest_steps_are_not_read():
    class Unread:
        def __array__(self, *_, **__):
            raise AssertionError("read too early")

    meter = Meter(1, lag=2)
    assert meter.add(1, measures(1)) == []
    assert meter.add(2, {"loss": (Unread(), Unread())}) == []
    assert [line.step for line in meter.add(3, {"loss": (Unread(), Unread())})] == [1]


def test_interrupted_anywhere_and_restored_through_json_gives_the_same_bits():
    whole = run(Meter(7), 1, 30)
    for stop in range(1, 30):
        first, second = Meter(7), Meter(7)
        lines = run(first, 1, stop)
        second.restore(json.loads(json.dumps(first.state())))
        assert lines + run(second, stop + 1, 30) == whole, stop


def test_what_is_left_at_the_end_can_be_cut():
    meter = Meter(10)
    assert [line.step for line in run(meter, 1, 13)] == [10]
    line = meter.cut()
    assert line is not None and (line.step, line.steps) == (13, 3)
    assert meter.cut() is None


def test_a_nan_is_reported_and_does_not_outlive_its_line():
    meter = Meter(2, lag=0)
    meter.add(1, {"loss": (jnp.float32(jnp.nan), jnp.float32(1))})
    (bad,) = meter.add(2, measures(2))
    meter.add(3, measures(3))
    (good,) = meter.add(4, measures(4))
    assert math.isnan(bad.means["loss"]) and math.isfinite(good.means["loss"])


def test_last_is_the_newest_value_read_also_after_a_line():
    meter = Meter(2, lag=1)
    assert meter.last("useful_tokens") is None
    for step in range(1, 6):
        meter.add(step, measures(step))
    assert meter.last("useful_tokens") == 104
    meter.drain()
    assert meter.last("useful_tokens") == 105
