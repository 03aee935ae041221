"""Claims about a length in epochs: it is counted from the packed rows, kept as steps, and steps on the line win."""

import dataclasses
import json
import math

import pytest

import jaxlm
from jaxlm.config import Stage, flags
from jaxlm.errors import UserError
from jaxlm.run import inputs, inventory

WORDS = ["--config.tokenizer.vocab_size=300"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "t.jsonl"
    rows = [
        {"text": f"the {name} number {i} is here", "label": name}
        for i in range(40)
        for name in ("cat", "dog")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(table, *words):
    fixed = [
        "x",
        "--config=classification",
        f"--config.data.corpus={table}",
        f"--config.data.cache={table.parent}",
    ]
    return flags.parse([*fixed, *WORDS, *words]).run


def rows_of(run, number=0):
    text = inputs.text(run, lambda line: None)
    return len(inputs.rows(run, text, run.stages[number], "train", number=number)[0].rows)


def test_epochs_are_steps_of_the_rows_that_there_are(table):
    said = []
    run = inventory.filled(
        command(table, "--config.epochs=2.5", "--config.evaluation.every_steps=0"), said.append
    )
    rows = rows_of(run)
    assert run.steps == math.ceil(2.5 * rows / 16) and run.evaluation.every_steps == math.ceil(rows / 16)
    assert f"{run.steps} steps: {run.steps * 16 / rows:.3g} epochs of {rows / 16:,.1f}" in said[-1]
    assert inventory.filled(run, said.append) == run  # as its config keeps it


def test_every_stage_passes_over_its_share(table):
    run = command(table, "--config.epochs=6", "--config.objective.max_tokens=14")
    run.stages = (Stage(length=16, share=0.75), Stage(length=64, share=0.25))
    run = inventory.filled(run, lambda line: None)
    passes = sum(stage.share * run.steps * 16 / rows_of(run, i) for i, stage in enumerate(run.stages))
    assert 6 <= passes < 6 + 16 / min(rows_of(run, 0), rows_of(run, 1))


def test_with_both_the_longer_counts(table):
    run = command(table, "--config.epochs=2.5")
    counted = inventory.filled(run, lambda line: None).steps
    for steps in (1, counted + 5):
        made = inventory.filled(dataclasses.replace(run, steps=steps), lambda line: None)
        assert made.steps == max(steps, counted)
        assert inventory.filled(made, lambda line: None) == made


def test_what_the_line_says_takes_the_place_of_the_recipe(table):
    assert command(table).steps == 300
    assert (command(table, "--config.epochs=2").steps, command(table, "--config.epochs=2").epochs) == (0, 2.0)
    both = command(table, "--config.epochs=2", "--config.steps=7")
    assert (both.steps, both.epochs) == (7, 2.0)
    assert flags._in_place(both, {"steps": 9}).epochs == 0.0
    once = inventory.filled(
        command(table, "--config.steps=7", "--config.evaluation.every_steps=0"), lambda line: None
    )
    assert once.evaluation.every_steps == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, r"config.steps=0 is out of range; allowed: at least 1, or 0 beside config.epochs"),
        ({"steps": -1}, "config.steps=-1 is out of range"),
        ({"steps": 0, "epochs": float("nan")}, "config.epochs=nan is out of range"),
    ],
)
def test_a_run_without_a_length_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(jaxlm.load_recipe("quickstart"), **changes).validate()
