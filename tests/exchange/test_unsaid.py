"""Claims about what a fine-tuning recipe begins with where nobody says it: as if it had been typed, and never in secret."""

import pathlib
import shutil

import pytest

from jaxlm.config import flags, folder
from jaxlm.exchange import starting, unsaid
from tests.exchange.folders import hf_folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which a tiny encoder, 8 wide with 32 positions, stands where the quickstart leaves its own."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(pathlib.Path(__file__).parents[1] / "golden" / "1" / "run", place / "runs" / "quickstart")
    return place


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begun(*words: str) -> tuple[str, str]:
    command = unsaid.parse(["train", *words])
    return command.run.init_from, command.note


def test_it_begins_from_nothing_where_no_tiny_run_is_and_says_what_to_type():
    nothing = "begins from nothing; after `jaxlm train quickstart{}` with what that learnt"
    for recipe, kind in (("similarity", ""), ("chat", "_gpt"), ("translation", "_t5")):
        assert begun(recipe) == ("", nothing.format(kind))


def test_it_begins_with_the_tiny_run_as_if_that_had_been_typed(place, monkeypatch):
    monkeypatch.chdir(place)
    for recipe in ("tagging", "multiple_choice"):
        command = unsaid.parse(["train", recipe])
        typed = flags.parse(["train", recipe, "--config.init_from=runs/quickstart"])
        assert (command.run, command.words, command.code) == (typed.run, typed.words, typed.code)
        assert command.run.init_from == "runs/quickstart" and "--config.init_from=" in command.note
        run, alone = command.run, flags.load(recipe)
        assert run.model.hidden == 8 and run.tokenizer.path == "runs/quickstart/tokenizer"
        assert run.model.max_positions == alone.model.max_positions > 32, "rows are as long as from nothing"
        assert (run.stages, run.optimizer) == (alone.stages, alone.optimizer)
    assert begun("chat")[0] == "", "of another kind"


def test_it_begins_with_nothing_unsaid_where_something_is_said(place, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    assert begun("tagging", "--config.init_from=") == ("", "")
    assert begun("tagging", "--config.model.layers=2") == ("", "")
    assert begun("tagging", "--config.data.corpus=mine.conll") == ("", "")
    assert begun("quickstart") == ("", "") and begun("continue_mlm") == ("", "")
    assert flags.load("tagging").init_from == "", "a recipe from Python is what its file says"
    assert begun("tagging", f"--config.init_from=hf:{hf_folder(tmp_path)}")[1] == ""


def test_a_run_goes_on_with_what_it_began_with(place, monkeypatch, tmp_path):
    before = unsaid.parse(["train", "tagging", f"--workdir={tmp_path}/run"]).run
    (tmp_path / "run").mkdir()
    folder.claim(folder.RunFolder(tmp_path / "run"), before)
    monkeypatch.chdir(place)
    assert unsaid.parse(["train", "tagging", f"--workdir={tmp_path}/run"]).run == before
    assert begun("tagging", f"--workdir={tmp_path}/other")[0] == "runs/quickstart"


def test_only_a_start_as_narrow_as_the_quickstarts_is_trained_like_them(place, tmp_path):
    assert starting.is_tiny(str(place / "runs" / "quickstart"))
    assert flags.load("quickstart").model.hidden == starting.TINY
