"""Law: what the documentation tells people to type can be typed, and what it links to exists."""

import pathlib
import re
import shlex

import pytest

from jaxlm.config import flags

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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_training_commands_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in commands(page.read_text()):
        words = shlex.split(command)
        if "jaxlm.train" in words:
            flags.parse(words[words.index("jaxlm.train") :])


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
