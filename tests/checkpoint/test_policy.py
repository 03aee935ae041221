"""Which checkpoints stay and when the next is due."""

import math

import pytest

from jaxlm.checkpoint.policy import Keep, SaveClock, kept_steps
from jaxlm.errors import UserError


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Keep(latest=1, best=0), {70}),
        (Keep(latest=2, best=0), {60, 70}),
        (Keep(latest=2, best=1), {20, 60, 70}),
        (Keep(latest=1, best=2), {20, 40, 70}),
        (Keep(latest=1, best=1, best_mode="max"), {10, 70}),
        (Keep(latest=1, best=1, best_metric="eval/nothing"), {70}),
        (Keep(latest=1, best=0, every_steps=30), {30, 60, 70}),
        (Keep(latest=9, best=3), {10, 20, 30, 40, 50, 60, 70}),
    ],
)
def test_kept_steps(keep, expected):
    losses = {10: 9.0, 20: 1.0, 30: math.nan, 40: 3.0, 50: 4.0, 70: 5.0}
    metrics = {s: {"eval/loss": losses[s]} if s in losses else {} for s in range(10, 80, 10)}
    assert kept_steps(metrics, keep) == expected


def test_the_newest_step_always_stays():
    assert 5 in kept_steps({1: {"eval/loss": 0.0}, 5: {"eval/loss": 9.0}}, Keep(latest=1, best=1))


def test_no_steps_no_decision():
    assert kept_steps({}, Keep(latest=1)) == set()


@pytest.mark.parametrize("change", [{"latest": 0}, {"best": -1}, {"every_steps": -5}])
def test_impossible_counts_are_refused_by_name(change):
    with pytest.raises(UserError, match=rf"config\.checkpoint\.keep\.{next(iter(change))}="):
        Keep(**change).validate("config.checkpoint.keep")


def test_due_by_steps():
    clock = SaveClock(every_steps=7, every_minutes=0.0)
    assert [step for step in range(1, 22) if clock.due(step)] == [7, 14, 21]


def test_due_by_minutes_since_the_last_save():
    now = [0.0]
    clock = SaveClock(every_steps=0, every_minutes=2.0, now=lambda: now[0])
    now[0] = 119.0
    assert not clock.due(1)
    now[0] = 120.0
    assert clock.due(2)
    clock.saved()
    now[0] = 239.0
    assert not clock.due(3)


def test_both_rules_off_is_never_due():
    clock = SaveClock(every_steps=0, every_minutes=0.0, now=lambda: 1e9)
    assert not any(clock.due(step) for step in range(1, 50))


def test_hosts_ask_the_main_clock_only_every_few_steps():
    asked = []
    clock = SaveClock(
        every_steps=0,
        every_minutes=1.0,
        agree=lambda over: asked.append(over) or True,
        agree_every=5,
        now=lambda: 0.0,
    )
    assert [step for step in range(1, 13) if clock.due(step)] == [5, 10]
    assert asked == [False, False]  # the answer is the main one's, not this host's
