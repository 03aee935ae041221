"""Claims about `jaxlm train`: a run folder needs no flags again, and names its recipe only where classes are its own."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxlm.checkpoint.folders import Folders
from jaxlm.config import flags, folder, tree
from jaxlm.errors import UserError
from tests import xla
from tests.runs import FEW, finish

ROOT = pathlib.Path(__file__).parents[2]
TINY = "tests/recipes/tiny.py"


@pytest.fixture(scope="module")
def trained(train_command, tmp_path_factory) -> pathlib.Path:
    """A finished run of a few steps."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    finish(train_command(workdir, *FEW, "--config.checkpoint.every_steps=2"))
    return workdir


def again(*words: str) -> flags.Command:
    return flags.parse(["train", *words])


def test_a_run_folder_goes_on_with_its_own_configuration(trained):
    command = again(f"--workdir={trained}")
    assert command.run == folder.saved_run(folder.RunFolder(trained)) and command.workdir == trained
    assert command.run.steps == 12 and command.overrides == {}
    assert "run folder" in flags.explain(command.run, command.overrides, command.source)


def test_overrides_on_top_are_compared_as_with_a_recipe(trained):
    place = folder.RunFolder(trained)
    check = lambda *words: folder.changes(
        place, again(f"--workdir={trained}", *words).run, allow_config_change=False
    )
    assert [change.path for change in check("--config.logging.every_steps=3")] == ["logging.every_steps"]
    with pytest.raises(
        UserError, match=r"steps: 12 in the run folder, 19 now.*\nFix: add --allow_config_change"
    ):
        check("--config.steps=19")
    with pytest.raises(UserError, match="holds another run"):
        check("--config.seed=5")


def test_the_folder_alone_continues_the_run_from_its_checkpoint(trained):
    words = [f"--workdir={trained}", "--config.steps", "14", "--allow-config-change"]
    done = subprocess.run(
        [sys.executable, "-m", "jaxlm", "train", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": xla.flags(1)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed from the checkpoint of step 12" in done.stdout and "done: 14 steps" in done.stdout
    assert Folders(trained / "checkpoints").committed()


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(
        UserError, match=rf"No recipe given\. {tmp_path} holds no run to continue\. .*jaxlm recipes"
    ):
        again(f"--workdir={tmp_path}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bert_base", "gpt2_small"], r"Unexpected argument 'gpt2_small'"),
        (["bert_base", "bert_base"], r"Unexpected argument 'bert_base'"),
        (["--steps", "100", "bert_base"], r"Unknown flag --steps: .* written --config\.steps"),
        (["bert_bas"], r'no such file\. .*Did you mean "bert_base"\?'),
        (["bert_base", "--config.stages[7]=Stage(length=8, share=1.0)"], r"Did you mean \"stages\[1\]\"\?"),
        (["bert_base", "--config.stages[7].length=8"], r"Unknown config key --config\.stages\[7\]\.length"),
        (["bert_base", "--workdir"], "Bad command line: Missing value for flag --workdir"),
    ],
)
def test_a_command_line_that_cannot_be_is_one_message(words, message):
    with pytest.raises(UserError, match=message):
        again(*words)


def test_a_run_with_classes_of_its_own_names_the_flag_and_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "_of_recipe", {})
    recipe = tmp_path / "own.py"
    recipe.write_text(
        "import dataclasses, pathlib\nfrom tiny import get_config as whole\n"
        "from jaxlm.optim.schedules import WarmupLinear\n\npathlib.Path('RAN').touch()\n\n\n"
        "@dataclasses.dataclass(kw_only=True)\nclass Mine(WarmupLinear):\n    more: float\n\n\n"
        "def get_config():\n    run = whole()\n    run.data.corpus = 'a.txt'\n"
        "    run.optimizer.schedule = Mine(**vars(run.optimizer.schedule), more=0.5)\n    return run\n"
    )
    (tmp_path / "tiny.py").write_text((ROOT / TINY).read_text())
    monkeypatch.chdir(tmp_path)
    made = again("own.py", "--config.steps=7").run
    workdir = tmp_path / "run"
    folder.claim(folder.RunFolder(workdir), made)
    (tmp_path / "RAN").unlink()
    monkeypatch.setattr(tree, "_of_recipe", {})  # as in a new process
    with pytest.raises(UserError, match=r"Mine is not a class of jaxlm.*Fix: name, with --recipe=FILE"):
        again(f"--workdir={workdir}")
    assert not (tmp_path / "RAN").exists()
    command = again(f"--workdir={workdir}", "--recipe=own.py")
    assert json.dumps(tree.to_json(command.run)) == json.dumps(tree.to_json(made)) and command.run.steps == 7
