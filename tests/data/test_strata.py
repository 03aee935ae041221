"""Claims: no label with two texts is left out of training or validation; what moves depends on neither order nor copies."""

import collections
import dataclasses
import json
import random
import shutil

import pytest

import jaxlm
from jaxlm.config import folder
from jaxlm.data.corpus import corpus
from jaxlm.data.corpus.strata import Strata
from jaxlm.errors import UserError
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.run import inputs, inventory
from tests.objectives import small

SPLITS = ("train", "validation", "test")


@pytest.fixture
def run(tmp_path):
    """(rows -> the run with them as its corpus, and the lines that its preflight says)."""

    def make(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        made = jaxlm.load_recipe("classification")
        made.data.corpus, made.data.cache, made.init_from = str(path), str(tmp_path / "cache"), ""
        made.data.validation_share, made.data.test_share = 0.1, 0.1
        said: list[str] = []
        return inventory.filled(made, said.append), said

    return make


def placed(run) -> dict[str, str]:
    """The split of every text."""
    one = run.data.corpus_config()
    return {record.texts[0]: one.split(record) for record in corpus.records(one, run.data.cache)}


COMMON = [(f"common text {i}", f"common{i % 2}") for i in range(300)]
RARE = [(f"rare {label} {i}", f"rare{label}") for label in range(12) for i in range(2)]
SINGLE = [("the only one", "single")]


def test_every_label_with_two_texts_is_in_training_and_in_validation(run):
    rows = [*COMMON, *RARE]
    made, said = run(rows)
    splits, labels = placed(made), dict(rows)
    for label in {label for _, label in rows}:
        there = {splits[text] for text in splits if labels[text] == label}
        assert {"train", "validation"} <= there, label
    assert len(made.objective.labels) == 14
    (line,) = [line for line in said if line.startswith("  stratified")]
    assert "rare0 to " in line and line.endswith(": else no row of it there")
    # The counts that are shown are those of the training split as it is.
    (shown,) = [line for line in said if line.startswith("  labels")]
    train = sum(split == "train" and labels[text] == "common0" for text, split in splits.items())
    assert f"common0 {train:,} (" in shown and "rare0 1 (" in shown


def test_what_moves_depends_on_neither_order_nor_copies_and_the_rest_stays(run):
    rows = [*COMMON, *RARE, *RARE[:7]]
    first, _ = run(rows)
    random.Random(1).shuffle(rows)
    again, _ = run(rows)
    assert first.data.moved == again.data.moved and placed(first) == placed(again)
    first.data.moved = ()
    by_hash, now = placed(first), placed(again)
    changed = [text for text in now if now[text] != by_hash[text]]
    assert len(changed) == len(again.data.moved) < len(RARE) and all(t.startswith("rare") for t in changed)


def test_nothing_moves_where_no_label_is_lacking(run):
    made, said = run(COMMON)
    assert made.data.moved == () and not any("stratified" in line for line in said)
    assert "moved" not in made.data.corpus_config().describe()


def test_a_label_with_one_text_is_left_where_it_is(run):
    made, _ = run([*COMMON, *SINGLE, *SINGLE])
    assert made.data.moved == ()


def test_fewer_validation_rows_than_labels_is_an_error_as_before(run):
    with pytest.raises(UserError, match="on fewer rows than labels says nothing"):
        run([*COMMON[:20], *[(f"text {i}", f"label{i}") for i in range(50)]])


def test_a_run_of_before_goes_on_with_the_splits_that_it_had(tmp_path, monkeypatch, capsys):
    """To the same numbers, though its shards are gone; its config.json knows of no moves."""
    table = small.write(
        tmp_path / "rows.csv", ({"text": text, "label": label} for text, label in [*COMMON, *RARE])
    )

    def recipe(cache):
        made = small.recipe("classification", table, tmp_path / cache, tokens=100, steps=4)
        made.data.validation_share, made.checkpoint.keep.last = 0.1, 2
        return made

    with monkeypatch.context() as before:
        before.setattr(Strata, "moves", lambda self: iter(()))
        whole = jaxlm.fit(recipe("one"), workdir=tmp_path / "run")
    place = folder.RunFolder(tmp_path / "run")
    shutil.rmtree(place.checkpoints / "4")
    saved = json.loads(place.config.read_text())
    assert saved["config"]["data"].pop("moved") == []
    place.config.write_text(json.dumps(saved))
    capsys.readouterr()
    assert jaxlm.fit(recipe("other"), workdir=tmp_path / "run").metrics == whole.metrics
    said = capsys.readouterr().out
    assert "resumed from the checkpoint of step 2" in said and "stratified" not in said
    assert "data.moved" not in said
    assert folder.moved(place) == () and folder.moved(folder.RunFolder(tmp_path / "none")) is None


def test_shards_without_what_moved_are_not_taken_for_those_with_it(run):
    made, _ = run([*COMMON, *(row for row in RARE if row[1] != "rare9")])  # whose texts hashes hold out, both
    by_hash = dataclasses.replace(made, data=dataclasses.replace(made.data, moved=()))
    one, other = (
        {
            split: len(shards)
            for split, shards in inputs.text(each, lambda line: None).streams[0].sources[""].items()
        }
        for each in (by_hash, made)
    )
    to = collections.Counter(target for _, target in made.data.moved)
    assert other["validation"] == one["validation"] + to["validation"] and to["validation"] > 5
    assert inventory.filled(cleared(made), print, made.data.moved).data == made.data


def test_of_several_tasks_the_hash_decides_alone(run):
    made, _ = run([*COMMON, *RARE])
    said: list[str] = []
    tasks = (
        Task(name="one", weight=1.0, rows=8, objective=cleared(made).objective, data=cleared(made).data),
    )
    several = dataclasses.replace(made, objective=MultiTask(tasks=tasks))
    inventory.filled(several, said.append)
    assert not any("stratified" in line for line in said)


def cleared(made):
    """As its recipe has it."""
    return dataclasses.replace(
        made,
        objective=dataclasses.replace(made.objective, labels=()),
        data=dataclasses.replace(made.data, moved=()),
    )


def test_against_all_ways_to_place_five_texts():
    """By hand: training and validation have one each, if there are two, and only what lacks is moved."""
    rng = random.Random(0)
    for _ in range(500):
        texts = {digest: rng.choice(SPLITS) for digest in rng.sample(range(1000), rng.randint(1, 5))}
        order = {"test": 0, "validation": 1, "train": 2}  # hashes of test are the smallest
        ranked = dict(zip(sorted(texts), sorted(texts.values(), key=order.__getitem__), strict=True))
        strata = Strata()
        for digest, split in rng.sample(sorted(ranked.items()), len(ranked)):
            strata.add("a", split, digest)
        moves = list(strata.moves())
        after = ranked | {digest: target for _, _, target, digest in moves}
        if len(ranked) < 2:
            assert not moves
        else:
            assert {"train", "validation"} <= {*after.values()}
            assert len(moves) == len({"train", "validation"} - {*ranked.values()})
