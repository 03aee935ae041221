"""Claims about a run's samples: prompts of the recipe are continued at its end, as the command does with its folder."""

import pathlib

import pytest

from jaxlm.commands import generate as command
from jaxlm.config import flags
from jaxlm.errors import UserError

RECIPES = pathlib.Path(__file__).parents[1] / "recipes"


def test_prompts_of_an_objective_that_does_not_generate_are_refused_at_the_start():
    run = flags.load(RECIPES / "tiny.py")
    run.generate = ("once",)
    with pytest.raises(UserError, match="config.generate: MaskedLM trains no generation"):
        run.validate()


def test_a_run_continues_its_prompts_and_the_command_does_the_same(train_command, tmp_path, capsys):
    recipe, prompts = "tests/recipes/objectives/causal_lm.py", ("Return the", "If")
    settings = ["--config.steps=3", f"--config.generate={prompts!r}", "--config.data.validation_share=0.1"]
    process = train_command(tmp_path / "run", *settings, recipe=recipe)
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    shown = (tmp_path / "run" / "samples" / "step-3.txt").read_text()
    assert shown in output + "\n"
    command.main(
        ["generate", f"--run={tmp_path / 'run'}", *(f"--prompt={p}" for p in prompts), "--max-new-tokens=48"]
    )
    answers = " ".join(capsys.readouterr().out.split())
    for prompt, line in zip(prompts, shown.splitlines()[1::2], strict=True):
        assert f"{prompt}{line.strip().rsplit('  [', 1)[0]}"[:20].replace(" ", "") in answers.replace(" ", "")
