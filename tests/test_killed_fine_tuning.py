"""Fine-tuning to answer questions, and from texts to texts, that is killed and started again: the bits of a run that
was not. `pytest -m slow tests/test_killed_fine_tuning.py`; the same without a kill is with each objective's tests."""

import json

import pytest

from tests.objectives.test_question_answering import squad
from tests.objectives.test_summarisation import records
from tests.runs import assert_same_run, killed_and_whole

STEPS = 12
FEW = {"steps": STEPS, "evaluation.every_steps": 6, "checkpoint.every_steps": 4, "logging.every_steps": 2}
SMALL = FEW | {"batch_size": 8, "model.hidden": 32, "model.heads": 2, "model.mlp": 48, "stages[0].length": 64}
RECIPES = {
    "question_answering": {
        "tokenizer.vocab_size": 110,
        "model.vocab_size": 110,
        "model.layers": 1,
        "model.max_positions": 64,
        "objective.max_tokens": 28,
        "objective.overlap": 5,
        "objective.question_tokens": 4,
        "objective.no_answer": True,
    },
    "summarisation": {
        "tokenizer.vocab_size": 100,
        "tokenizer.sentinels": 0,
        "model.vocab_size": 100,
        "model.head_dim": 16,
        "data.validation_share": 0.15,
    },
}


@pytest.fixture
def tables(tmp_path):
    made = {name: tmp_path / f"{name}.{end}" for name, end in zip(RECIPES, ("json", "jsonl"), strict=True)}
    made["question_answering"].write_text(json.dumps(squad(100, none=True)))
    made["summarisation"].write_text("".join(json.dumps(row) + "\n" for row in records()))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_killed_and_resumed_it_ends_in_the_same_bits(name, train_command, tables, tmp_path):
    given = SMALL | RECIPES[name] | {"data.corpus": tables[name]}
    words = [f"--config.{key}={value}" for key, value in given.items()]
    start = lambda workdir, **fault: train_command(workdir, *words, recipe=name, **fault)
    killed, whole = killed_and_whole(start, tmp_path, at=7, resumed=" 4")
    assert_same_run(whole, killed, STEPS)
