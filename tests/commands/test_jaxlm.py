"""Claims about `jaxlm VERB`: every verb opens and explains itself, and a word that is none is answered."""

import ast
import importlib
import io
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from jaxlm import __main__ as jaxlm
from jaxlm.commands import GROUPS
from jaxlm.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
VERBS = [name for group in GROUPS.values() for name in group]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    module = importlib.import_module(jaxlm.module(verb))
    assert callable(module.run)
    with pytest.raises(SystemExit) as ended:
        module.main([f"jaxlm {verb}", "--help"])
    said = capsys.readouterr().out
    assert ended.value.code in (0, None)
    assert re.search(rf"^    jaxlm {verb}\b", said, re.MULTILINE), said


def test_every_command_is_a_verb_of_the_table():
    files = {path.stem.rstrip("_") for path in (ROOT / "jaxlm" / "commands").glob("[a-z]*.py")}
    assert files - {"options", "inputs", "parts", "untuned", "writing", "convert_checkpoint"} == set(VERBS)


def test_the_first_screen_lists_all_verbs_and_needs_nothing_but_python():
    # What is installed is slow to import, and may be what is broken.
    check = "import sys; from jaxlm import __main__ as j; j.main(['jaxlm', '--help']);"
    check += "print({name.partition('.')[0] for name in sys.modules} & {'jax', 'numpy', 'flax', 'absl'})"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    *said, imported = done.stdout.splitlines()
    assert imported == "set()"
    assert [verb for verb in VERBS if not any(line.startswith(f"    {verb} ") for line in said)] == []
    assert len([line for line in said if line.startswith("    jaxlm ")]) == 3


def test_a_command_of_that_name_is_installed():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"jaxlm": "jaxlm.__main__:run"}


def test_a_verb_ends_with_its_commands_code_and_a_mistake_with_78():
    run = lambda *words: subprocess.run(
        [sys.executable, "-m", "jaxlm", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert run("--version").stdout.startswith("jaxlm ")
    wrong = run("recipes", "bert_bas")
    assert wrong.returncode == 78 and 'Did you mean "bert_base"?' in wrong.stderr


def test_an_unknown_verb_is_answered_with_the_closest():
    with pytest.raises(UserError, match=r"no command 'trian'\. Did you mean \"train\"\?.*fill_mask"):
        jaxlm.module("trian")
    assert jaxlm.module("fill-mask") == "jaxlm.commands.fill_mask"
    assert jaxlm.module("import") == "jaxlm.commands.import_"


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py"])
def test_an_older_python_can_read_what_it_sees_first(name):
    ast.parse((ROOT / "jaxlm" / name).read_text(), feature_version=(3, 7))


def test_an_older_python_is_told_in_one_sentence(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    monkeypatch.setattr(sys, "stderr", said)
    with pytest.raises(SystemExit) as ended:
        exec(compile((ROOT / "jaxlm" / "__init__.py").read_text(), "jaxlm/__init__.py", "exec"), {})
    assert ended.value.code == 78
    assert (
        said.getvalue().startswith("jaxlm needs Python 3.11 or newer; ") and said.getvalue().count("\n") == 1
    )
