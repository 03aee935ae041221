"""What a run advises at its end can be typed, and fits the run."""

import pathlib
import shlex
from types import SimpleNamespace

import pytest

from jaxlm.config import flags
from jaxlm.config.folder import RunFolder
from jaxlm.training import summary

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = ROOT / "tests" / "recipes"


def advised(
    recipe: pathlib.Path, folder: str = "runs/x", splits: tuple[str, ...] = ("train",), **fields
) -> list[str]:
    """The commands for a run of this recipe."""
    run = flags.load(recipe)
    for name, value in fields.items():
        setattr(run, name, value)
    stream = SimpleNamespace(sources={"": dict.fromkeys(splits)})
    tokenizer = SimpleNamespace(token=lambda id: f"<extra_id_{id}>")
    vocabulary = SimpleNamespace(sentinels=(0, 1))
    place = RunFolder(pathlib.Path(folder))
    text = SimpleNamespace(streams=(stream,), tokenizer=tokenizer, vocabulary=vocabulary)
    return summary.commands(SimpleNamespace(run=run, place=place, text=text))


def test_the_commands_are_those_that_the_model_and_the_corpus_can_answer():
    verbs = lambda *args, **fields: [command.split()[1] for command in advised(*args, **fields)]
    assert verbs(RECIPES / "tiny.py") == ["fill_mask", "embed", "report", "export"]
    assert verbs(RECIPES / "tiny.py", splits=("train", "test")) == [
        "fill_mask",
        "embed",
        "evaluate",
        "report",
        "export",
    ]
    assert verbs(RECIPES / "objectives" / "causal_lm.py") == ["generate", "report", "export"]
    assert verbs(RECIPES / "objectives" / "span_corruption.py") == ["generate", "report", "export"]
    asked = advised(RECIPES / "objectives" / "span_corruption.py")[0]
    assert asked == 'jaxlm generate --run=runs/x "Once upon a <extra_id_0>"'
    assert verbs(RECIPES / "objectives" / "contrastive.py") == ["embed", "report", "export"]
    assert verbs(RECIPES / "objectives" / "replaced_tokens.py") == ["embed", "report", "export"]


@pytest.mark.parametrize("text", ["a [MASK].", 'a "[MASK]"', "$HOME `[MASK]`!", "it's [MASK]"])
def test_a_shell_reads_folder_and_text_as_they_are(text):
    command = advised(RECIPES / "tiny.py", "my runs/ö's", fill=(text,))[0]
    assert shlex.split(command) == ["jaxlm", "fill_mask", "--run=my runs/ö's", text]


def test_every_command_that_is_advised_exists():
    lines = [line for path in RECIPES.glob("objectives/*.py") for line in advised(path, splits=("test",))]
    verbs = {line.split()[1] for line in lines} | {"train"}
    assert verbs == {"train", "fill_mask", "generate", "embed", "evaluate", "report", "export"}
    assert not [verb for verb in verbs if not (ROOT / "jaxlm" / "commands" / f"{verb}.py").exists()]


def test_the_baseline_line_says_on_which_side_the_model_is():
    assert (
        summary.beside(5.0, 5.25) == "the model is 0.2500 nats per predicted token below the unigram baseline"
    )
    assert (
        summary.beside(5.5, 5.25) == "the model is 0.2500 nats per predicted token above the unigram baseline"
    )
