"""Claims: every schedule is its closed form, equals Hugging Face's where there is one, and must fit the run."""

import math

import jax
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.optim import schedules
from jaxlm.optim.horizon import Horizon

PEAK, END, WARMUP, TOTAL = 3e-4, 2e-5, 37, 501
HORIZON = Horizon(((301, 1_024), (200, 4_096)))
RTOL = 3e-6  # float32, a handful of roundings


def ramp(s):
    return PEAK * s / WARMUP


def progress(s):
    return (s - WARMUP) / (TOTAL - WARMUP)


def wsd(shape):
    start = TOTAL - 101  # 20 % of 501 steps, rounded up

    def rate(s):
        x = max(0.0, (s - start) / (TOTAL - start))
        return END + (PEAK - END) * shape(x)

    return rate


both = {"peak": PEAK, "warmup": f"{WARMUP} steps"}
CASES = {
    "constant": (schedules.Constant(**both), lambda s: PEAK),
    "linear": (schedules.WarmupLinear(**both, end=END), lambda s: PEAK + (END - PEAK) * progress(s)),
    "bert": (schedules.BertLinear(**both, end=END), lambda s: PEAK + (END - PEAK) * s / TOTAL),
    "cosine": (
        schedules.WarmupCosine(**both, end=END),
        lambda s: END + (PEAK - END) * (1 + math.cos(math.pi * progress(s))) / 2,
    ),
    "polynomial": (
        schedules.Polynomial(**both, end=END, power=2.5),
        lambda s: END + (PEAK - END) * (1 - progress(s)) ** 2.5,
    ),
    "inverse": (schedules.InverseSquareRoot(**both), lambda s: PEAK * math.sqrt(WARMUP / s)),
    **{
        f"wsd-{name}": (
            schedules.WarmupStableDecay(**both, end=END, decay="20%", shape=name),
            wsd(shape),
        )
        for name, shape in {
            "linear": lambda x: 1 - x,
            "sqrt": lambda x: 1 - math.sqrt(x),
            "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
        }.items()
    },
}


@pytest.mark.parametrize("name", CASES)
def test_schedule_is_its_closed_form(name):
    config, after = CASES[name]
    rate = jax.jit(jax.vmap(config.make(HORIZON, "schedule")))
    expected = [ramp(s) if s < WARMUP else after(s) for s in range(TOTAL + 1)]
    # atol: near an end of 0 a difference of equals is left, which is exact only to the ulp of the peak.
    np.testing.assert_allclose(rate(np.arange(TOTAL + 1)), expected, rtol=RTOL, atol=1e-7 * PEAK)


@pytest.mark.parametrize("name", CASES)
def test_first_update_gets_zero_and_the_end_is_kept(name):
    config, after = CASES[name]
    rate = config.make(HORIZON, "schedule")
    assert rate(0) == 0.0
    assert rate(TOTAL + 1000) == rate(TOTAL)
    np.testing.assert_allclose(rate(TOTAL), after(TOTAL), rtol=RTOL)
    assert rate(np.int32(WARMUP)).dtype == np.float32


def test_without_warmup_the_first_update_gets_the_peak():
    assert schedules.WarmupLinear(peak=PEAK, warmup="0", end=0.0).make(HORIZON, "s")(0) == np.float32(PEAK)


def test_bert_drops_after_the_warmup_and_linear_does_not():
    bert = schedules.BertLinear(**both, end=0.0).make(HORIZON, "s")
    linear = schedules.WarmupLinear(**both, end=0.0).make(HORIZON, "s")
    np.testing.assert_allclose(linear(WARMUP), PEAK, rtol=RTOL)
    np.testing.assert_allclose(bert(WARMUP), PEAK * (1 - WARMUP / TOTAL), rtol=RTOL)


def test_t5_holds_the_peak_instead_of_a_warmup():
    rate = schedules.HeldInverseSquareRoot(peak=WARMUP**-0.5, warmup=str(WARMUP)).make(HORIZON, "s")
    expected = [max(s, WARMUP) ** -0.5 for s in range(TOTAL + 1)]
    np.testing.assert_allclose(jax.vmap(rate)(np.arange(TOTAL + 1)), expected, rtol=RTOL)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "polynomial", "inverse"])
def test_schedule_equals_hugging_face(name):
    torch = pytest.importorskip("torch")
    optimization = pytest.importorskip("transformers.optimization")
    theirs = {
        "constant": lambda o: optimization.get_constant_schedule_with_warmup(o, WARMUP),
        "linear": lambda o: optimization.get_linear_schedule_with_warmup(o, WARMUP, TOTAL),
        "cosine": lambda o: optimization.get_cosine_schedule_with_warmup(o, WARMUP, TOTAL),
        "polynomial": lambda o: optimization.get_polynomial_decay_schedule_with_warmup(
            o, WARMUP, TOTAL, lr_end=END, power=2.5
        ),
        "inverse": lambda o: optimization.get_inverse_sqrt_schedule(o, WARMUP, timescale=WARMUP),
    }[name]
    config = CASES[name][0]
    if name in ("linear", "cosine"):
        config = type(config)(**both, end=0.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = theirs(optimizer)
    expected = []
    for _ in range(TOTAL):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    ours = jax.vmap(config.make(HORIZON, "schedule"))(np.arange(TOTAL))
    np.testing.assert_allclose(ours, expected, rtol=RTOL, atol=1e-7 * PEAK)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (schedules.WarmupLinear(peak=0.0, warmup="1", end=0.0), r"s\.peak=0\.0: .*above 0"),
        (schedules.WarmupLinear(peak=1e-4, warmup="1", end=2e-4), r"s\.end=0\.0002: .*at most 0\.0001"),
        (schedules.WarmupLinear(peak=1e-4, warmup="six", end=0.0), r"s\.warmup='six': not a duration"),
        (schedules.WarmupLinear(peak=1e-4, warmup="502", end=0.0), r"s\.warmup='502' is 502 steps, but 501 "),
        (schedules.InverseSquareRoot(peak=1e-4, warmup="0"), r"s\.warmup='0': must be above 0"),
        (schedules.Polynomial(peak=1e-4, warmup="0", end=0.0, power=0.0), r"s\.power=0\.0"),
        (
            schedules.WarmupStableDecay(peak=1e-4, warmup="60%", end=0.0, decay="41%", shape="linear"),
            r"s\.decay='41%' is 206 steps, but 200 of the run's 501",
        ),
        (
            schedules.WarmupStableDecay(peak=1e-4, warmup="1%", end=0.0, decay="1%", shape="sqr"),
            r's\.shape=.*Did you mean "sqrt"',
        ),
    ],
)
def test_impossible_schedule_is_refused(config, message):
    with pytest.raises(UserError, match=message):
        config.make(HORIZON, "s")
