"""A run over a mixture of corpora: what it reads, reports and refuses; a kill changes nothing."""

import json
import pathlib

import numpy as np
import pytest

from jaxlm.config import flags
from jaxlm.errors import UserError
from jaxlm.run import inputs
from tests import runs

RECIPES = pathlib.Path(__file__).parent / "recipes"
RECIPE = """
import sys
sys.path.insert(0, {recipes!r})
import tiny
from jaxlm.config import Mixture, Share
from jaxlm.data.corpus import Corpus
from jaxlm.data.corpus.steps import Clean

def get_config():
    run = tiny.get_config()
    docs = Corpus(source={docs!r}, validation_share=0.1, test_share=0.0)
    words = Corpus(source={words!r}, steps=(Clean(),), validation_share=0.2, test_share=0.0)
    run.data.mixture = Mixture(
        shares=(
            Share(name="docs", corpus=docs, weight=3.0, epochs=0.0),
            Share(name="words", corpus=words, weight=1.0, epochs=1.5),
        ),
        temperature=1.0,
    )
    run.steps, run.evaluation.every_steps, run.checkpoint.every_steps = 24, 8, 5
    return run
"""


@pytest.fixture(scope="module")
def recipe(corpus, tmp_path_factory):
    place = tmp_path_factory.mktemp("mixture")
    rng = np.random.default_rng(4)
    texts = ["  ".join(rng.choice(["seven", "eight", "nine", "ten"], rng.integers(5, 60))) for _ in range(60)]
    (place / "words.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in dict.fromkeys(texts))
    )
    path = place / "recipe.py"
    path.write_text(RECIPE.format(recipes=str(RECIPES), docs=corpus, words=str(place / "words.jsonl")))
    return path


def test_rows_are_of_both_sources_and_held_out_rows_of_each(recipe, tmp_path):
    run = flags.parse(["train", f"--config={recipe}", f"--config.data.cache={tmp_path}"]).run
    text = inputs.text(run, lambda _: None)
    (train,) = inputs.rows(run, text, run.stages[0], "train")
    assert [train.rows.place(i)[0] for i in range(8)].count(0) == 6
    words = train.rows.sources[1]
    assert [train.rows.place(i)[0] for i in range(8 * len(words))].count(1) == int(np.ceil(1.5 * len(words)))
    held_out = inputs.rows(run, text, run.stages[0], "validation")
    assert [read.source for read in held_out] == ["docs", "words"]
    assert len({key for read in held_out for key in read.fingerprint("rows")}) == 2
    (later,) = inputs.rows(run, text, run.stages[1], "train", number=1)
    seeds = {rows.seed for read in (train, later) for rows in read.rows.sources}
    assert len(seeds) == 4, "neither sources nor stages share an order"


def test_the_rows_of_a_mixture_are_attested_and_shown_with_their_source(recipe, tmp_path):
    run = flags.parse(["train", f"--config={recipe}"]).run
    state, again, rows = runs.consumed_and_replayed(run, tmp_path, 3)
    assert state["read"] == [(0, 0, 0, 3)] and state["hash"] == again
    assert [row.source for row in rows].count("words") == 2 and len(rows) == 8
    files = {row.source: {pathlib.Path(part.where).name.split(":")[0] for part in row.parts} for row in rows}
    assert files == {"docs": {"docs.jsonl"}, "words": {"words.jsonl"}}


def test_a_killed_run_ends_like_one_that_was_not_and_reports_every_source(train_command, recipe, tmp_path):
    def finish(name, code=0, **environment):
        process = train_command(tmp_path / name, "--config.data.corpus=", recipe=str(recipe), **environment)
        return runs.finish(process, code, seconds=240)

    said = finish("whole")
    assert "source docs: " in said and "source words: " in said and "held-out masked-LM loss on words" in said
    finish("killed", code=-9, JAXLM_FAULT="kill@step=13")
    finish("killed")
    whole, killed = runs.metrics(tmp_path / "whole"), runs.metrics(tmp_path / "killed")
    assert runs.attested(tmp_path / "whole", 24) == runs.attested(tmp_path / "killed", 24)
    assert whole == killed
    last = next(line for line in reversed(whole) if "eval/loss" in line)
    assert {
        "eval/docs/loss",
        "eval/words/loss",
        "eval/docs/mlm_loss",
        "eval/words/mlm_accuracy",
    } <= last.keys()
    assert min(last["eval/docs/loss"], last["eval/words/loss"]) < last["eval/loss"]
    assert last["eval/loss"] < max(last["eval/docs/loss"], last["eval/words/loss"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.data.corpus=a.txt", r"data\.corpus='a\.txt', and there is a config\.data\.mixture"),
        ("--config.data.mixture.shares[0].epochs=2.0", "every corpus ends"),
        ("--config.data.mixture.shares[1].name=docs", "no name twice"),
        ("--config.data.mixture.shares[1].weight=-1.0", r"shares\[1\]\.weight=-1\.0 is out of range"),
        ("--config.data.mixture.temperature=0.0", "temperature=0.0 is out of range"),
        ("--config.data.mixture.shares[0].corpus.source=", "source is empty"),
    ],
)
def test_what_is_no_mixture_is_refused_by_its_key(recipe, override, message):
    with pytest.raises(UserError, match=message):
        flags.parse(["train", f"--config={recipe}", override])


def test_weights_of_nothing_are_sizes_and_a_temperature_flattens_them(recipe):
    mixed = flags.load(recipe).data.mixture
    assert mixed.weights([100, 10]) == [3.0, 1.0]
    mixed.shares[0].weight = mixed.shares[1].weight = 0.0
    mixed.temperature = 2.0
    assert mixed.weights([100, 16]) == [10.0, 4.0]
