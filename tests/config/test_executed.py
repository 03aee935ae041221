"""Claims about recipes: they load each other from anywhere, are read anew each time, and it is known which files count."""

import hashlib
import json
import pathlib
import sys

import pytest

import jaxlm
from jaxlm.config import executed, flags, folder, tree
from jaxlm.config.executed import Code
from jaxlm.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
RECIPE = """
import dataclasses
import jaxlm
from my_units import Unit

@dataclasses.dataclass(kw_only=True)
class Here(Unit):
    more: int

def get_config(steps="50"):
    run = jaxlm.load_recipe("quickstart")
    run.steps = int(steps)
    run.objective.unit = Here(size=SIZE, more=2)
    return run
"""
UNITS = """
import dataclasses
from jaxlm.objectives.units import Tokens

@dataclasses.dataclass(kw_only=True)
class Unit(Tokens):
    size: int
    name = "NAME"
"""


def write(place: pathlib.Path, *, size: int = 1, name: str = "first") -> pathlib.Path:
    """A folder with a recipe and a module beside it."""
    place.mkdir(exist_ok=True)
    (place / "mine.py").write_text(RECIPE.replace("SIZE", str(size)))
    (place / "my_units.py").write_text(UNITS.replace("NAME", name))
    return place / "mine.py"


def sha(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_recipe_in_another_folder_loads_one_of_jaxlm_and_modules_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own")
    run = flags.load("own/mine.py:70")
    assert (run.steps, run.model) == (70, jaxlm.load_recipe("quickstart").model)
    assert str(tmp_path / "own") not in sys.path
    assert tree.from_json(json.loads(json.dumps(tree.to_json(run)))) == run


@pytest.mark.parametrize("name", ["t5_small", "simcse_bert_base_supervised", "quickstart_llama"])
def test_a_recipe_of_jaxlm_works_where_it_is_copied_to(name, tmp_path):
    (tmp_path / "copy.py").write_text((ROOT / "configs" / f"{name}.py").read_text())
    assert flags.load(tmp_path / "copy.py") == flags.load(name)


def test_two_folders_have_modules_of_one_name_and_an_edited_one_counts(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", name="second")
    names = [flags.load(path).objective.unit.name for path in (first, second, first)]
    assert names == ["first", "second", "first"]
    write(tmp_path / "a", name="third")  # of the same size, in the same second
    assert flags.load(first).objective.unit.name == "third"


def test_its_code_is_the_recipe_and_what_it_imported_from_its_folder(tmp_path):
    recipe = write(tmp_path / "own")
    (tmp_path / "own" / "other.py").write_text("")
    code = flags.parse(["train", f"--config={recipe}:9"]).code
    assert code is not None and code.recipe == f"{recipe}:9"
    assert code.files == {name: sha(recipe.parent / name) for name in ("mine.py", "my_units.py")}
    shipped = flags.parse(["train", "--config=quickstart_llama"]).code
    assert shipped is not None and set(shipped.files) == {"quickstart_gpt.py", "quickstart_llama.py"}


def test_of_a_run_from_python_the_files_of_its_classes_are_known(tmp_path):
    recipe = write(tmp_path / "own")
    run = flags.load(recipe)
    assert executed.of_classes(run) == Code(str(recipe), {"mine.py": sha(recipe)})
    flags.load(write(tmp_path / "other"))
    assert executed.of_classes(run) == Code(), "another recipe stands in its place by now"
    assert executed.of_classes(jaxlm.load_recipe("quickstart")) == Code() and executed.has_own(run)


def test_the_run_folder_notes_them_and_says_what_changed(tmp_path):
    recipe, place = write(tmp_path / "own"), folder.RunFolder(tmp_path / "run")
    command = flags.parse(["train", f"--config={recipe}"])
    folder.claim(place, command.run, command.code)
    assert command.code is not None and folder.noted(place) == command.code
    folder.claim(place, command.run, Code())  # goes on by its folder alone
    assert folder.noted(place) == command.code
    write(tmp_path / "own", name="other")
    now = flags.named_recipe(str(recipe))
    before, after = command.code.files["my_units.py"], now.files["my_units.py"]
    assert before != after
    assert folder.noted(place).changes(now) == [f"my_units.py: SHA-256 {before[:12]} then, {after[:12]} now"]


def test_a_folder_that_notes_nothing_or_nonsense_is_read(tmp_path):
    place = folder.RunFolder(tmp_path)
    assert folder.noted(place) == Code()
    for text in ("", "[]", '{"code": {"files": 3, "recipe": ""}}', '{"format": 1}'):
        place.config.write_text(text)
        assert folder.noted(place) == Code()


def test_what_no_run_folder_can_hold_is_refused(tmp_path):
    recipe = write(tmp_path / "own")
    text = recipe.read_text().replace("@dataclasses.dataclass(kw_only=True)\nclass Here(Unit)", "class Here")
    recipe.write_text(
        text.replace("Here(size=1, more=2)", "Here()").replace("    more: int", "    choose = print")
    )
    with pytest.raises(
        UserError, match=r"objective\.unit=.*Here is no dataclass.*Fix: @dataclasses\.dataclass"
    ):
        flags.load(recipe)


def test_a_recipe_without_get_config_is_told_so(tmp_path):
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match="cannot be loaded: AttributeError: .*get_config"):
        flags.load(tmp_path / "empty.py")
