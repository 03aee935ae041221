"""Config trees: paths, types, JSON."""

import dataclasses
import json
import pathlib
import sys
from typing import Literal

import pytest

from jaxlm.config import Stage, flags, tree
from jaxlm.errors import UserError


@dataclasses.dataclass(kw_only=True)
class Leaf:
    size: int
    rate: float
    kind: Literal["narrow", "wide"] = "narrow"


@dataclasses.dataclass(kw_only=True)
class Trunk:
    leaf: Leaf
    leaves: tuple[Leaf, ...]
    name: str
    note: str | None = None


def _trunk() -> Trunk:
    return Trunk(
        leaf=Leaf(size=3, rate=0.5), leaves=(Leaf(size=5, rate=1), Leaf(size=7, rate=2.0)), name="oak"
    )


def test_leaves_name_every_value_and_whether_it_has_a_default():
    found = {path: (value, default) for path, value, default in tree.leaves(_trunk())}
    assert found["leaf.size"] == (3, False)
    assert found["leaves[1].rate"] == (2.0, False)
    assert found["leaf.kind"] == ("narrow", True)
    assert found["note"] == (None, True)


@pytest.fixture
def trusted(monkeypatch):
    monkeypatch.setattr(tree, "_of_recipe", {})
    tree.trust(_trunk())


def test_json_round_trip_rebuilds_the_objects(trusted):
    assert tree.from_json(json.loads(json.dumps(tree.to_json(_trunk())))) == _trunk()
    stage = Stage(length=8, share=1.0)
    assert tree.from_json(tree.to_json(stage)) == stage


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "os.system", "command": "true"}, "os.system is not a class of jaxlm.*--recipe=FILE"),
        ({"type": "this.X"}, "this.X is not a class of jaxlm"),
        ({"type": "jaxlm.nowhere.Thing"}, "cannot find the config class jaxlm.nowhere.Thing"),
        ({"type": "jaxlm..Thing"}, "cannot find the config class"),
        ({"type": "jaxlm.errors.UserError"}, "jaxlm.errors.UserError is not a config class"),
        (
            {"type": "jaxlm.config.Stage", "length": 8, "share": 1.0},
            "jaxlm.config.Stage is not a config class",
        ),
        ({"type": ["jaxlm"]}, "must be the name of a config class"),
        ({"length": 8}, '"type" is None'),
        (
            {"type": "jaxlm.config.schema.Stage", "length": "8", "share": 1.0},
            r"config.length='8' has the wrong type",
        ),
        ({"type": "jaxlm.config.schema.Stage", "length": 8}, "also needs share"),
    ],
)
def test_json_chooses_among_our_config_classes_only(value, message):
    for wrapped in (value, [value]):
        with pytest.raises(UserError, match=message.replace("config.length", r"config.*\.length")):
            tree.from_json(wrapped)
    assert "this" not in sys.modules


def test_json_that_is_nested_without_end_is_refused():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(UserError, match="nested too deeply"):
        tree.from_json(value)


def test_json_with_an_unknown_field_names_it(trusted):
    data = tree.to_json(Leaf(size=3, rate=0.5)) | {"colour": "red"}
    with pytest.raises(UserError, match="has no field colour"):
        tree.from_json(data)


def test_the_classes_of_the_recipe_that_a_command_names_are_known(tmp_path, monkeypatch):
    monkeypatch.chdir(pathlib.Path(__file__).parents[2])
    (tmp_path / "own.py").write_text(
        "import dataclasses, sys\nsys.path.insert(0, 'tests/recipes')\nfrom tiny import get_config as tiny\n"
        "from jaxlm.optim.schedules import WarmupLinear\n\n\n"
        "@dataclasses.dataclass(kw_only=True)\nclass Mine(WarmupLinear):\n    more: float\n\n\n"
        "@dataclasses.dataclass\nclass Unused:\n    size: int\n\n\n"
        "def get_config():\n    run = tiny()\n    old = run.optimizer.schedule\n"
        "    run.optimizer.schedule = Mine(peak=old.peak, warmup=old.warmup, end=old.end, more=0.5)\n    return run\n"
    )
    run = flags.parse(["train", f"--config={tmp_path}/own.py", "--config.optimizer.schedule.more=2.5"]).run
    saved = json.loads(json.dumps(tree.to_json(run)))
    assert saved["optimizer"]["schedule"]["type"] == "config_config.Mine"
    assert tree.from_json(saved) == run
    assert tree.from_json({"type": "config_config.Unused", "size": 3}).size == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(size=3.5), r"run\.leaf\.size=3\.5 has the wrong type; allowed: int"),
        (dict(rate="much"), r"run\.leaf\.rate='much' has the wrong type; allowed: float"),
        (dict(size=True), r"run\.leaf\.size=True has the wrong type"),
        (dict(kind="narow"), r'run\.leaf\.kind=\'narow\'; allowed: narrow, wide\. Did you mean "narrow"\?'),
    ],
)
def test_a_wrong_type_is_named_with_its_path(change, message):
    trunk = _trunk()
    for name, value in change.items():
        setattr(trunk.leaf, name, value)
    with pytest.raises(UserError, match=message):
        tree.check_types(trunk, "run")


def test_a_class_is_found_where_it_was_written_before_it_moved():
    from jaxlm.data.corpus import Corpus
    from jaxlm.data.corpus.columns import Label

    old = {"type": "jaxlm.data.columns.Label", "field": "label"}
    assert tree.from_json([old]) == (Label(field="label"),)
    share = tree.to_json(Corpus(source="a.txt", validation_share=0.1, test_share=0.0))
    assert tree.from_json({**share, "type": "jaxlm.data.corpus.Corpus"}) == Corpus(
        source="a.txt", validation_share=0.1, test_share=0.0
    )
