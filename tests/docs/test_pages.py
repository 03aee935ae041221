"""What the documentation tells a reader to type can be typed; its transcripts run from top to bottom (`-m slow`)."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

from jaxlm import __main__ as jaxlm
from jaxlm.commands import options
from jaxlm.config import flags
from jaxlm.errors import UserError
from tests.docs import pages

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "launch/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def files_and_commands(page: pathlib.Path) -> tuple[list[pages.File], list[pages.Command]]:
    found = pages.read(page.read_text())
    files = [one for one in found if isinstance(one, pages.File)]
    return files, [one for one in found if isinstance(one, pages.Command)]


TRANSCRIPTS = [page for page in PAGES if any(one.transcript for one in files_and_commands(page)[1])]


class Parsed(Exception):
    """The options of a command were understood."""


def parse(verb: str, words: list[str]) -> None:
    """UserError for what the command of a verb, or of a former door, does not take."""
    former = verb.startswith("jaxlm.")
    module = importlib.import_module(verb).run.__module__ if former else jaxlm.module(verb)
    if "--help" in words:
        return
    if module.endswith(".train"):
        flags.parse(["train", *words])
    else:
        with pytest.raises(Parsed):
            importlib.import_module(module).main([f"jaxlm {verb}", *words])


@pytest.fixture
def only_parse(monkeypatch):
    """Every command but train ends when its options are read."""
    read = options.Parser.options

    def then_stop(self, argv):
        read(self, argv)
        raise Parsed

    monkeypatch.setattr(options.Parser, "options", then_stop)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_of_a_page_is_understood(page, only_parse, tmp_path, monkeypatch, capsys):
    files, commands = files_and_commands(page)
    monkeypatch.chdir(tmp_path)
    for file in files:
        file.write(tmp_path)
    made = [name for command in commands for name in re.findall(r">\s*(\S+)$", command.line)]
    refused = []
    for command in commands:
        for verb, words in command.verbs():
            try:
                parse(verb, words)
            except UserError as error:
                if command.code == 0 and not _is_of_elsewhere(str(error), made):
                    refused.append(f"{command.line}\n{error}")
    assert not refused, "\n\n".join(refused)


@pytest.mark.parametrize(
    "line",
    [
        "jaxlm trian quickstart",
        "jaxlm train quickstart --config.stepz=1",
        "jaxlm export runs/a exported --chek",
        "jaxlm fill_mask --run=runs/a --top=many text",
        "python -m jaxlm.generate --prompt=a",
    ],
)
def test_a_misspelled_command_is_noticed(line, only_parse):
    [(verb, words)] = pages.Command(line=line).verbs()
    with pytest.raises(UserError):
        parse(verb, words)


def _is_of_elsewhere(error: str, made: list[str]) -> bool:
    """The command is well spelled; the reader's folder, or the file that a command `made`, is not here."""
    absent = ("holds no run", "no such folder", "no complete checkpoint there")
    return any(words in error for words in (*absent, *(f"{name}: no such file" for name in made)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", TRANSCRIPTS, ids=lambda p: p.name)
def test_a_transcript_runs_from_top_to_bottom(page, tmp_path):
    environment = shell(tmp_path)
    place = tmp_path / "empty"
    place.mkdir()
    for one in pages.read(page.read_text()):
        if isinstance(one, pages.File):
            one.write(place)
        elif one.transcript:
            done = subprocess.run(
                ["bash", "-c", one.line], cwd=place, env=environment, capture_output=True, text=True
            )
            assert done.returncode == one.code, f"$ {one.line}\n{done.stdout}{done.stderr}"


def shell(folder: pathlib.Path) -> dict[str, str]:
    """The environment of a reader: `jaxlm` and `python` are those of the test, the cache is empty, one device."""
    for name, words in (("jaxlm", "-m jaxlm "), ("python", "")):
        script = folder / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        script.chmod(0o755)
    found = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAXLM_CACHE": str(folder / "cache"),
        "COLUMNS": "100",
    }
    del found["XLA_FLAGS"]
    return found


PAGE = """\
```bash
python3 -m venv x && .venv/bin/jaxlm train a \\
    --flag   # a comment
python -m jaxlm.fill_mask --run=x "a [MASK]; b | c" | head -2
```
Text.
```python title="mine.py"
x = 1
```
```console
$ jaxlm recipes quickstart > mine.py
$ A=1 jaxlm train mine.py --config.steps=x
error: no
  more
$ echo $?
78
$ ls
```
"""


def test_a_page_is_read_as_it_is_written():
    bash, mask, file, recipe, train, last = pages.read(PAGE)
    assert isinstance(bash, pages.Command) and list(bash.verbs()) == [("train", ["a", "--flag"])]
    assert isinstance(mask, pages.Command)
    assert list(mask.verbs()) == [("jaxlm.fill_mask", ["--run=x", "a [MASK]; b | c"])]
    assert file == pages.File(name="mine.py", text="x = 1\n")
    assert isinstance(recipe, pages.Command) and list(recipe.verbs()) == [("recipes", ["quickstart"])]
    assert train == pages.Command(
        line="A=1 jaxlm train mine.py --config.steps=x",
        shown=("error: no", "  more"),
        code=78,
        transcript=True,
    )
    assert isinstance(train, pages.Command)
    assert list(train.verbs()) == [("train", ["mine.py", "--config.steps=x"])]
    assert isinstance(last, pages.Command) and last.code == 0 and not bash.transcript
