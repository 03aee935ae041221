"""The run folder: whose it is, who works in it, and what is said when it cannot be used."""

import json
import os
import pathlib

import pytest

from jaxlm.config import flags, folder, tree
from jaxlm.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


def run(*overrides: str):
    return flags.parse(["train", f"--config={ROOT}/configs/bert_base.py", *overrides]).run


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="exists and is not a run folder"):
        folder.check_free(folder.RunFolder(tmp_path))


def test_a_run_folder_rebuilds_its_run(tmp_path):
    place = folder.RunFolder(tmp_path / "new")
    folder.claim(place, run("--config.model.layers=5"))
    folder.check_free(place)
    saved = json.loads(place.config.read_text())["config"]
    assert folder.run_of(saved, "config.json") == run("--config.model.layers=5")
    with pytest.raises(UserError, match=r"config\.json holds no configuration of a run"):
        folder.run_of(saved["model"], "config.json")


@pytest.mark.parametrize(
    ("found", "saved"),
    [
        ((), False),
        (("4.orbax-checkpoint-tmp-1/x",), False),
        (("4/state",), False),  # a first save that was killed before its manifest
        (("4/state", "4/manifest.json"), True),
        (("4.corrupt/state",), True),
        (("4/state", "8/state"), True),  # manifests were lost: no save begins before the last one has its own
    ],
)
def test_a_first_save_that_was_cut_short_is_no_checkpoint(tmp_path, found, saved):
    place = folder.RunFolder(tmp_path)
    for name in found:
        (place.checkpoints / name).parent.mkdir(parents=True, exist_ok=True)
        (place.checkpoints / name).touch()
    assert place.has_checkpoints() is saved


def test_a_run_without_checkpoints_may_start_anew_with_any_configuration(tmp_path):
    place = folder.RunFolder(tmp_path / "new")
    folder.claim(place, run())
    other = run("--config.model.layers=5")
    assert folder.changes(place, other, allow_config_change=False) == []
    (place.checkpoints / "5").mkdir(parents=True)
    (place.checkpoints / "5" / "manifest.json").touch()
    with pytest.raises(UserError, match="holds another run"):
        folder.changes(place, other, allow_config_change=False)


@pytest.mark.parametrize(
    "text", ["{", '{"format": 1}', "[3]", "[" * 100_000, '{"format": 1, "config": "\udcff"}']
)
def test_a_config_json_that_is_none_is_named_with_what_to_do(tmp_path, text):
    place = folder.RunFolder(tmp_path)
    (place.checkpoints / "5").mkdir(parents=True)
    (place.checkpoints / "5" / "manifest.json").touch()
    place.config.write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=r"config\.json cannot be read .*Fix: remove this file"):
        folder.changes(place, run(), allow_config_change=False)


def test_a_folder_that_lost_its_config_json_is_still_a_run_folder(tmp_path):
    place = folder.RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="is not a run folder"):
        folder.check_free(place)
    (place.checkpoints / "5").mkdir(parents=True)
    (place.checkpoints / "5" / "manifest.json").touch()
    folder.check_free(place)
    (tmp_path / "model.json").touch()
    with pytest.raises(UserError, match="is not a run folder"):
        folder.check_free(place)


def test_a_checkpoint_of_another_run_is_refused_and_one_of_an_earlier_schedule_is_not(tmp_path):
    place = folder.RunFolder(tmp_path)
    folder.claim(place, run())

    def check(override: str) -> None:
        saved = json.loads(json.dumps(tree.to_json(run(override))))
        folder.check_checkpoint(place, 5, saved, run(), allow_config_change=False)

    check("--config.steps=7")
    with pytest.raises(UserError, match=r"(?s)checkpoint of step 5 .* holds another run.*seed: 7 in"):
        check("--config.seed=7")
    place.config.unlink()
    with pytest.raises(UserError, match="allow_config_change"):
        check("--config.steps=7")


def test_one_run_at_a_time_works_in_a_folder(tmp_path):
    place, lines = folder.RunFolder(tmp_path), []
    in_use = pytest.raises(UserError, match=rf"in use by process {os.getpid()} on ")
    with folder.lock(place, lines.append), in_use, folder.lock(place, print):
        pass
    with folder.lock(place, lines.append):
        assert lines == []


def test_a_file_of_the_folder_that_cannot_be_used_is_named_and_others_are_not_our_message(tmp_path):
    place = folder.RunFolder(tmp_path / "run")
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        folder.check_free(place)
    with (
        pytest.raises(UserError, match=r"/run.* cannot be used: .*Fix: name a --workdir"),
        folder.disk_errors(place),
    ):
        folder.claim(place, run())
    with pytest.raises(FileNotFoundError), folder.disk_errors(place):
        (tmp_path / "elsewhere").read_text()


def test_what_no_run_reads_again_may_fail_to_be_written(tmp_path):
    said = []
    folder.keep(tmp_path / "rows" / "a.json", "1\n", said.append)
    folder.keep(tmp_path / "rows" / "a.json", "2\n", said.append, append=True)
    assert (tmp_path / "rows" / "a.json").read_text() == "1\n2\n" and not said
    folder.keep(tmp_path / "rows" / "a.json" / "b", "3\n", said.append)
    (line,) = said
    assert line.startswith("WARNING: ") and "the run goes on without it" in line
