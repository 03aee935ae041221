"""Continuing a run with another configuration: operational values change freely, the schedule on request."""

import json
import pathlib

import pytest

from jaxlm.config import drift, flags, folder, tree
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


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="exists and is not a run folder"):
        folder.enter(tmp_path, run(), allow_config_change=False)


def test_a_run_folder_rebuilds_its_run(tmp_path):
    place, changes = folder.enter(tmp_path / "new", run(), allow_config_change=False)
    assert changes == []
    folder.claim(place, run("--config.model.layers=5"))
    _, found = folder.read(tmp_path / "new")
    assert found == run("--config.model.layers=5")


def test_a_run_without_checkpoints_may_start_anew_with_any_configuration(tmp_path):
    place, _ = folder.enter(tmp_path / "new", run(), allow_config_change=False)
    folder.claim(place, run())
    folder.enter(tmp_path / "new", run("--config.model.layers=5"), allow_config_change=False)
    (place.checkpoints / "5").mkdir(parents=True)
    with pytest.raises(UserError, match="holds another run"):
        folder.enter(tmp_path / "new", run("--config.model.layers=5"), allow_config_change=False)
