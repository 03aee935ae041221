"""Best so far and patience, across a resume too."""

import json

import pytest

from jaxlm.checkpoint.policy import Keep
from jaxlm.evaluate.early_stopping import EarlyStopping


def resumed(early: EarlyStopping, keep: Keep, said: list[str]) -> EarlyStopping:
    again = EarlyStopping(keep, 3)
    again.restore(json.loads(json.dumps(early.state())), say=said.append)
    return again


def test_a_resumed_run_stops_where_the_other_would_have():
    said: list[str] = []
    whole, parts = EarlyStopping(Keep(), 3), EarlyStopping(Keep(), 3)
    for step, loss in enumerate([5.0, 4.0, 4.5, 4.25, float("nan")]):
        parts = resumed(parts, Keep(), said)
        assert (
            whole.update(step, {"eval/loss": loss}) == parts.update(step, {"eval/loss": loss}) == (step < 2)
        )
        assert whole.over == parts.over == (step == 4)
    assert said == []


@pytest.mark.parametrize("change", [{"best_metric": "eval/loss", "best_mode": "min"}, {"best_mode": "min"}])
def test_the_best_of_another_metric_says_nothing_about_this_one(change):
    accuracy = {"best_metric": "eval/mlm_accuracy", "best_mode": "max"}
    early, said = EarlyStopping(Keep(**accuracy), 3), []
    assert early.update(1, {"eval/mlm_accuracy": 0.4, "eval/loss": 9.0})
    again = resumed(early, Keep(**{**accuracy, **change}), said)
    assert again.update(2, {"eval/mlm_accuracy": 0.5, "eval/loss": 8.0})
    assert len(said) == 1 and "max eval/mlm_accuracy" in said[0]


def test_a_state_from_before_it_named_its_metric_is_taken_as_it_was():
    early, said = EarlyStopping(Keep(), 3), []
    early.restore({"best": 4.0, "stale": 2}, say=said.append)
    assert not early.update(1, {"eval/loss": 4.5}) and early.over and said == []
