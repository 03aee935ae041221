"""Law: every field of a config says in its source what it means, with unit or range: `--help` shows it."""

import importlib

import pytest

from jaxlm.config import meanings


@pytest.mark.parametrize(("name", "module"), meanings.classes().items(), ids=list(meanings.classes()))
def test_every_field_of_a_config_has_a_meaning(name, module):
    found = meanings.of(getattr(importlib.import_module(module), name))
    silent = [field for field, meaning in found.items() if not meaning]
    assert not silent, f"{module}.{name}: write a comment behind {', '.join(silent)}"
