"""The remaining time, on numbers that can be added up by hand, with a clock that the test turns."""

import math

import pytest

from jaxlm.monitor.forecast import Due, Forecast, Leg


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


LEGS = (
    Leg(first=0, last=600, tokens=1000, cost=2.0),
    Leg(first=600, last=1000, tokens=3000, cost=7.0, evaluated=9000),
)
PACE, START = 0.5, 30.0  # seconds per cost, and per stage


@pytest.fixture
def clock() -> Clock:
    return Clock()


def begun(clock: Clock, **due) -> Forecast:
    """100 steps of the first stage, which held out 12,000 tokens."""
    forecast = Forecast(LEGS, Due(**{"evaluation": 0, **due}), now=clock)
    assert math.isnan(forecast.remaining_s())
    forecast.begins(0)
    clock.now += START
    forecast.began(held_out=12_000)
    run(forecast, clock, 0, 100)
    return forecast


def run(forecast: Forecast, clock: Clock, after: int, last: int) -> None:
    for step in range(after + 1, last + 1):
        clock.now += PACE * LEGS[step > 600].cost
        forecast.stepped(step)


STEPS = PACE * (2.0 * 500 + 7.0 * 400)


def evaluations(*, first: int, second: int, pace: float = PACE / 3) -> float:
    """So many of each stage: 12 and 3 steps' tokens."""
    return pace * (first * 12 * 2.0 + second * 3 * 7.0)


def test_before_anything_was_seen_but_steps(clock):
    """A stage that comes costs what it computes, and starts as the first; an evaluation is a third of its tokens' steps."""
    last_only = evaluations(first=0, second=1) + START / 3
    assert begun(clock, evaluation=10**6).remaining_s() == pytest.approx(STEPS + START + last_only)
    every = evaluations(first=3, second=2) + 2 * START / 3
    assert begun(clock, evaluation=200).remaining_s() == pytest.approx(STEPS + START + every)


def test_what_an_evaluation_took_is_expected_of_the_next_and_its_compilation_of_the_next_stage(clock):
    forecast = begun(clock, evaluation=100)
    for seconds in (4.0 + 6.0, 6.0):
        with forecast.pause("evaluation"):
            clock.now += seconds
        run(forecast, clock, forecast.step, forecast.step + 100)
    assert forecast.step == 300
    pace = 6.0 / (12 * 2.0)
    left = PACE * (2.0 * 300 + 7.0 * 400) + START
    # That of step 300 is still to come. The first was expected to compute for 4 s, and compiled for the rest.
    compiled = 10.0 - evaluations(first=1, second=0)
    assert forecast.remaining_s() == pytest.approx(
        left + evaluations(first=4, second=4, pace=pace) + compiled
    )


def test_a_pause_is_no_part_of_the_pace(clock):
    forecast = begun(clock, evaluation=10**6)
    before = forecast.remaining_s()
    with forecast.pause("save"):
        clock.now += 1000.0
    run(forecast, clock, 100, 101)
    assert forecast.remaining_s() == pytest.approx(before - PACE * 2.0 + 1000.0)


@pytest.mark.parametrize(
    ("due", "saves"),
    [
        ({}, 0),
        ({"save": 250}, 3),  # 250, 500, 750; that of 1000 is the last anyway
        ({"save": 250, "save_best": True}, 3 + 2),  # and 400, 800
        ({"save_best": True}, 2),
        ({"save_s": 100.0}, 18.5),
        ({"save": 900, "save_s": 100.0}, 18.5),
    ],
)
def test_saves_by_steps_by_minutes_and_at_evaluations(due, saves):
    assert Due(**{"evaluation": 400, **due}).saves(100, 999, 1850.0) == saves


def test_the_pace_follows_the_machine(clock):
    """What else runs comes and goes: after a tenth of the run the old pace counts a third."""
    forecast = begun(clock, evaluation=10**6)
    for step in range(101, 401):
        clock.now += 4 * PACE * 2.0
        forecast.stepped(step)
    steps = PACE * (2.0 * 200 + 7.0 * 400)
    assert 3.6 * steps < forecast.remaining_s() < 4.2 * steps + 2 * START


def test_a_resumed_run_expects_what_is_left(clock):
    forecast = Forecast(LEGS, Due(evaluation=10**6), start=900, now=clock)
    forecast.begins(1)
    forecast.began(held_out=0.0)
    run(forecast, clock, 900, 950)
    assert forecast.remaining_s() == pytest.approx(PACE * 7.0 * 50)


@pytest.mark.parametrize("wrong", [0.85, 1.0, 1.3])
def test_a_whole_run_of_two_stages_is_within_a_quarter_from_a_tenth_on(clock, wrong):
    """Also where steps of the second stage, evaluations and compilations cost `wrong` times what is expected of them."""
    forecast = Forecast(LEGS, Due(evaluation=150, save=100, save_best=True), now=clock)
    estimates = {}
    for number, leg in enumerate(LEGS):
        forecast.begins(number)
        clock.now += START * (wrong if number else 1.0)
        forecast.began(held_out=12_000)
        for step in range(leg.first + 1, leg.last + 1):
            clock.now += PACE * leg.cost * (wrong if number else 1.0)
            forecast.stepped(step)
            estimates[step] = (clock.now, forecast.remaining_s())
            if step % 150 == 0 or step == 1000:
                with forecast.pause("evaluation"):
                    clock.now += wrong * (
                        evaluations(first=1 - number, second=number) + START / 3 * (step in (150, 750))
                    )
            if step % 100 == 0 or step % 150 == 0:
                with forecast.pause("save"):
                    clock.now += 1.5
    for share in (100, 250, 500, 750, 900):
        then, estimate = estimates[share]
        assert estimate == pytest.approx(clock.now - then, rel=0.25), share
