"""A tagger that is not of jaxlm: trained on a column of tags, killed, resumed, and better than the commonest tag."""

import json
import random

import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.run import inputs
from tests.extensions import tagger_run
from tests.runs import assert_same_run, killed_and_whole

RECIPE, STEPS = "tests/extensions/tagger_run.py", 40
# "May" is a person or a month, and only what stands before it tells which.
PLACES = ["New York", "Paris", "Old Harbour Town", "Rome"]
PEOPLE = ["May", "Anna Maria Holt", "Tom"]


def sentence(rng: random.Random) -> dict:
    person, place = rng.choice(PEOPLE).split(), rng.choice(PLACES).split()
    tokens = [
        *person,
        "went",
        "to",
        *place,
        "in",
        rng.choice(["May", "June"]),
        str(rng.randrange(1900, 2000)),
    ]
    bio = lambda words, label: ["B-" + label, *["I-" + label] * (len(words) - 1)]
    return {"tokens": tokens, "tags": [*bio(person, "PER"), "O", "O", *bio(place, "LOC"), "O", "O", "O"]}


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    rng, path = random.Random(0), tmp_path_factory.mktemp("tagged") / "tags.jsonl"
    path.write_text("".join(json.dumps(sentence(rng)) + "\n" for _ in range(400)))
    return str(path)


@pytest.fixture(scope="module")
def runs(tagged, train_command, tmp_path_factory):
    """(folder of a run that was killed and resumed, that of one that was not)."""
    start = lambda workdir, **fault: train_command(
        workdir, f"--config.data.corpus={tagged}", recipe=RECIPE, **fault
    )
    return killed_and_whole(start, tmp_path_factory.mktemp("tagger"), at=18, resumed="")


def test_killed_and_resumed_it_ends_in_the_same_bits(runs):
    killed, whole = runs
    assert_same_run(whole, killed, STEPS)


def test_it_learns_the_tags(runs, tagged, tmp_path):
    run = tagger_run.get_config()
    run.data.corpus, run.data.cache = tagged, str(tmp_path)
    text = inputs.text(run, lambda line: None)
    tags = text.streams[0].sources[""]["validation"].array("tags")
    majority = np.bincount(tags).max() / len(tags)
    lines = [json.loads(line) for line in (runs[1] / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["eval/tags_accuracy"] for line in lines if "eval/tags_accuracy" in line]
    assert 0.4 < majority < 0.7 and held_out[-1] > majority + 0.2


def test_other_labels_than_those_of_the_corpus_are_refused(tagged, tmp_path):
    run = tagger_run.get_config()
    run.data.corpus, run.data.cache, run.objective.labels = tagged, str(tmp_path), ("LOC",)
    text = inputs.text(run, lambda line: None)
    with pytest.raises(UserError, match=r"Fix: labels=\('LOC', 'PER'\)"):
        inputs.rows(run, text, run.stages[0], "train")
