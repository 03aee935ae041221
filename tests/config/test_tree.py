"""Config trees: paths, types, JSON."""

import dataclasses
from typing import Literal

import pytest

from jaxlm.config import tree
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


def test_json_round_trip_rebuilds_the_objects():
    assert tree.from_json(tree.to_json(_trunk())) == _trunk()


def test_json_with_a_class_that_is_no_config_is_refused():
    with pytest.raises(UserError, match="os.system is not a config class"):
        tree.from_json({"type": "os.system", "command": "true"})
    with pytest.raises(UserError, match="cannot find the config class jaxlm.nowhere.Thing"):
        tree.from_json({"type": "jaxlm.nowhere.Thing"})


def test_json_with_an_unknown_field_names_it():
    data = tree.to_json(Leaf(size=3, rate=0.5)) | {"colour": "red"}
    with pytest.raises(UserError, match="has no field colour"):
        tree.from_json(data)


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
