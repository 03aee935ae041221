"""Law: what the documentation links to exists; tests/docs/ has what it tells people to type."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


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
