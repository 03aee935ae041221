"""Law: what the documentation tells people to type can be typed, and what it links to exists."""

import contextlib
import importlib
import pathlib
import re
import shlex

import pytest

from jaxlm import __main__ as jaxlm
from jaxlm.config import flags
from jaxlm.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [part for line in lines for part in re.split(r"&&", re.sub(r"\s+#.*", "", line)) if part.strip()]


def typed(page: pathlib.Path) -> list[tuple[str, list[str]]]:
    """(verb, words behind it) of the page's commands of jaxlm, however they are opened."""
    found = []
    for command in commands(page.read_text()):
        words = shlex.split(command)
        for i, word in enumerate(words):
            if re.fullmatch(r"jaxlm\.\w+", word):
                found.append((word.partition(".")[2], words[i + 1 :]))
            elif re.fullmatch(r"(.*/)?jaxlm", word) and (i == 0 or words[i - 1] == "-m"):
                found.append((words[i + 1], words[i + 2 :]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_training_commands_parse(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for verb, words in typed(page):
        if verb == "train" and "--help" not in words:
            alone = len(words) == 1 and words[0].startswith(
                "--workdir="
            )  # the run of a folder that is not here
            with pytest.raises(UserError, match="holds no run") if alone else contextlib.nullcontext():
                flags.parse(["train", *words])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_options_of_other_commands_are_theirs(page):
    former = {"convert_checkpoint": "compare", "prepare_corpus": "data", "inspect_checkpoint": "inspect"}
    for verb, words in typed(page):
        module = importlib.import_module(jaxlm.module(former.get(verb, verb)))
        text = pathlib.Path(str(module.__file__)).read_text()
        if "add_checkpoint" in text or "add_model" in text or "add_run" in text:
            text += (ROOT / "jaxlm" / "commands" / "options.py").read_text()
        for option in re.findall(r"^--[a-z-]+", "\n".join([] if verb == "train" else words), re.MULTILINE):
            assert f'"{option}"' in text or "add_check(" in text, f"{verb} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tools_and_links_exist(page):
    text = page.read_text()
    for path in re.findall(r"\b(?:tools|configs|launch)/[\w.]+\.(?:py|sh|sbatch|yaml)\b", text):
        assert (ROOT / path).exists() or path == "configs/x.py", path
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / link).exists(), link


def test_the_gate_runs_the_readmes_own_test_command():
    text = (ROOT / "README.md").read_text()
    command = re.search(r"<!-- tests -->\n```bash\n(.*?)\n```", text)
    assert command and "pytest" in command.group(1)
    assert "<!-- tests -->" in (ROOT / ".ci" / "run").read_text()
