"""Continuing a run with another configuration: operational values change freely, the schedule on request."""

import json
import pathlib

import pytest

from jaxlm.config import drift, flags, tree
from jaxlm.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


def run(*overrides: str):
    return flags.parse(["train", f"--config={ROOT}/configs/bert_base.py", *overrides]).run


def check(*overrides: str, allow: bool = False) -> list[str]:
    saved = json.loads(json.dumps(tree.to_json(run())))
    return [c.path for c in drift.check(saved, run(*overrides), allow=allow, workdir="runs/x")]


def test_nothing_changed():
    assert check() == []


def test_operational_values_may_change():
    changed = check("--config.logging.every_steps=3", "--config.mesh.fsdp=2", "--config.model.remat=block")
    assert changed == ["logging.every_steps", "mesh.fsdp", "model.remat"]


@pytest.mark.parametrize("override", ["--config.steps=5", "--config.optimizer.schedule.peak=1e-3"])
def test_the_schedule_changes_only_on_request(override):
    with pytest.raises(UserError, match=r"(?s)schedule differs.*in the run folder.*--allow_config_change"):
        check(override)
    assert len(check(override, allow=True)) == 1


@pytest.mark.parametrize(
    "override",
    [
        "--config.model.layers=3",
        "--config.tokenizer.vocab_size=100",
        "--config.seed=1",
        "--config.batch_size=8",
        "--config.data.packing=none",
        "--config.data.corpus=other.txt",
        "--config.objective.masked_lm.rate=0.3",
    ],
)
def test_what_decides_the_weights_is_refused(override):
    with pytest.raises(UserError, match=r"(?s)runs/x holds another run.*in the run folder.*--workdir"):
        check(override, allow=True)
