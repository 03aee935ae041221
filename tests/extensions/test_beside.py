"""Objective, unit and reader beside a recipe outside the repository: trained, resumed and used, the files named."""

import pathlib
import sys

import pytest

from jaxlm import train
from jaxlm.commands import fill_mask, stream
from jaxlm.config import folder
from jaxlm.errors import UserError

RECIPE = """
import jaxlm
from my_work import Counting, EverySecond, Weighted

def get_config():
    run = jaxlm.load_recipe("quickstart")
    run.model.layers, run.model.hidden, run.model.mlp, run.model.heads = 1, 16, 32, 2
    run.model.vocab_size = run.tokenizer.vocab_size = 100
    run.objective = Weighted(**{**vars(run.objective), "unit": EverySecond(start=1)}, factor=3.0)
    run.data.corpus, run.data.reader = "", Counting(documents=60)
    run.data.validation_share = 0.2
    run.stages[0].length = 32
    run.steps, run.batch_size, run.fill, run.check_isolation = 4, 8, (), False
    run.optimizer.schedule.warmup = run.optimizer.rest_schedule.warmup = "1 steps"
    run.evaluation.rows, run.checkpoint.every_steps, run.checkpoint.every_minutes = 8, 2, 0.0
    return run
"""
WORK = '''
import dataclasses

import numpy as np

from jaxlm.batch import Loss
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.source import Reader
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.units import maskable


@dataclasses.dataclass(kw_only=True)
class EverySecond:
    """Tokens at every second place."""

    start: int  # 0 or 1

    def choose(self, row, vocabulary, number, rng):
        return np.sort(rng.permutation(np.flatnonzero(maskable(row, vocabulary))[self.start :: 2])[:number])


@dataclasses.dataclass(kw_only=True)
class Weighted(MaskedLM):
    """Its loss counts `factor` times."""

    factor: float  # of the loss

    def score(self, predictions, batch):
        found = super().score(predictions, batch)
        total, weight = found.terms["mlm"]
        return Loss({"mlm": (total * self.factor, weight)}, found.measures)


@dataclasses.dataclass(kw_only=True)
class Counting(Reader):
    """Products in words."""

    documents: int  # how many

    def records(self):
        for i in range(self.documents):
            yield Record((" ".join(f"{i} times {j} is {i * j}" for j in range(12)),))
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """A folder outside the repository with a recipe, its module, and the run that they gave."""
    place = tmp_path_factory.mktemp("outside")
    (place / "mine.py").write_text(RECIPE)
    (place / "my_work.py").write_text(WORK)
    words = [f"--config={place}/mine.py", f"--workdir={place}/run", f"--config.data.cache={place}/cache"]
    assert train.main(["train", *words]) == 0
    return place


def test_all_three_are_used(trained, capsys):
    lines = (trained / "run" / "run.log").read_text()
    assert "Counting" in lines, "what it reads"
    assert f"jaxlm fill_mask --run={trained}/run --recipe={trained}/mine.py" in lines, "works as typed"
    assert set(folder.noted(folder.RunFolder(trained / "run")).files) == {"mine.py", "my_work.py"}
    assert stream.main(["stream", f"--run={trained}/run", f"--recipe={trained}/mine.py", "--step=1"]) == 0
    assert "times" in capsys.readouterr().out
    import json

    metrics = [json.loads(line) for line in (trained / "run" / "metrics.jsonl").read_text().splitlines()]
    held_out = next(line for line in metrics if "eval/loss" in line)
    assert held_out["eval/loss"] == pytest.approx(3 * held_out["eval/mlm_loss"], rel=1e-5)


@pytest.mark.parametrize(
    "command",
    [
        lambda run: train.main(["train", f"--workdir={run}"]),
        lambda run: fill_mask.main(["fill_mask", f"--run={run}", "a [MASK]"]),
    ],
)
def test_nothing_is_imported_without_being_named(trained, command):
    for name in ("my_work", "config_config"):
        sys.modules.pop(name, None)
    from jaxlm.config import tree

    tree._of_recipe.clear()
    with pytest.raises(
        UserError, match=rf"my_work\.\w+ is not a class of jaxlm.*--recipe={trained}/mine\.py"
    ):
        command(trained / "run")
    assert "my_work" not in sys.modules


def test_named_it_goes_on_and_says_which_file_is_another(trained, capsys):
    recipe = f"--recipe={trained}/mine.py"
    assert fill_mask.main(["fill_mask", f"--run={trained}/run", recipe, "--top=2", "3 times [MASK]"]) == 0
    assert "WARNING" not in capsys.readouterr().err
    (trained / "my_work.py").write_text(WORK + "# another comment\n")
    assert fill_mask.main(["fill_mask", f"--run={trained}/run", recipe, "--top=2", "3 times [MASK]"]) == 0
    assert "was trained with another my_work.py: SHA-256" in capsys.readouterr().err
    words = [f"--workdir={trained}/run", recipe, "--config.steps=6", "--allow-config-change"]
    assert train.main(["train", *words]) == 0
    said = capsys.readouterr().out
    assert "changed since the last start: my_work.py: SHA-256" in said and "checkpoint of step 4" in said
