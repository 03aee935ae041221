"""The page of objectives: every recipe is on it, and every trained model is well below the trivial predictor."""

import pathlib

import pytest

from jaxlm.config import flags
from tools import show_objectives

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "objectives.md").read_text()
RECIPES = sorted(path.stem for path in (ROOT / show_objectives.RECIPES).glob("*.py"))


def test_every_recipe_has_a_section_and_every_section_a_recipe():
    assert sorted(entry.name for entry in show_objectives.ENTRIES) == RECIPES
    for entry in show_objectives.ENTRIES:
        assert f"\n## {entry.title}\n" in PAGE and f"{show_objectives.RECIPES}/{entry.name}.py" in PAGE
    for entry in show_objectives.TUNED:
        section = PAGE.partition(f"\n## {entry.title}\n")[2].partition("\n## ")[0]
        run = flags.load(ROOT / "configs" / f"{entry.name}.py")
        assert f"objective={show_objectives._source(run.objective)},\n" in section and "\nrow " in section


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_load_and_the_page_shows_their_objective(name):
    run = flags.load(ROOT / show_objectives.RECIPES / f"{name}.py")
    assert f"objective={show_objectives._source(run.objective)},\n" in PAGE


def test_every_measure_was_trained_below_the_trivial_predictor():
    trained = show_objectives._stored(ROOT / "docs" / "objectives.md")
    for entry in show_objectives.ENTRIES:
        rows = [row.split("|") for row in trained[entry.name]]
        assert [row[2].strip(" `") for row in rows] == [measure for measure, _, _ in entry.measures], (
            entry.name
        )
        for row, (_, _, margin) in zip(rows, entry.measures, strict=True):
            assert float(row[6]) >= margin, row


def test_rows_of_the_page_are_kept_and_configs_are_written_as_code(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        f"x\n{show_objectives.BEGIN}\n| Causal language modelling | a |\n{show_objectives.END}\ny\n"
    )
    stored = show_objectives._stored(page)
    assert stored["causal_lm"] == ["| Causal language modelling | a |"] and not stored["ul2"]
    show_objectives._write(page, {**stored, "ul2": ["| Mixture of denoisers | b |"]}, {})
    assert page.read_text().startswith("x\n") and "| Mixture of denoisers | b |" in page.read_text()
    paragraphs = show_objectives._paragraphs("One\ntwo.\n\nThree:\n    a  b\nfour.")
    assert paragraphs == ["One two.", "Three:", "```\na  b\n```", "four."]
