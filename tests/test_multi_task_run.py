"""Whole runs of several tasks over two corpora, as a user starts them."""

import dataclasses
import functools
import json
import pathlib
import signal

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from jaxlm.checkpoint.opened import open_run
from jaxlm.config import flags
from jaxlm.errors import UserError
from jaxlm.run import inputs, streams
from tests import runs
from tests.runs import metrics

RECIPE = "tests/recipes/tiny_tasks.py"
FEW = ("--config.steps=24", "--config.evaluation.every_steps=8", "--config.logging.every_steps=2")


@pytest.fixture(scope="module")
def corpora(corpus, tmp_path_factory):
    """The flags for a second corpus: every other document of the first."""
    path = tmp_path_factory.mktemp("second") / "half.jsonl"
    path.write_text("".join(line + "\n" for line in pathlib.Path(corpus).read_text().splitlines()[::2]))
    return (f"--config.objective.tasks[2].data.corpus={path}",)


finish = functools.partial(runs.finish, seconds=250)


def weights(workdir: pathlib.Path, step: int) -> list[np.ndarray]:
    tree = ocp.load_checkpointables(workdir / "checkpoints" / str(step), {"state": None})["state"]
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def start(train_command, corpora):
    """Starts the recipe with both corpora."""
    return lambda workdir, *overrides, **environment: train_command(
        workdir, *FEW, *corpora, *overrides, recipe=RECIPE, **environment
    )


def test_the_rows_of_every_task_are_attested_and_shown_with_both_texts_of_a_pair(corpus, corpora, tmp_path):
    run = run_of(corpus, corpora, "--config.mesh.data=2", "--config.mesh.tensor=4")
    state, again, rows = runs.consumed_and_replayed(run, tmp_path, 3)
    assert state["hash"] == again
    assert [row.task for row in rows] == ["words"] * 4 + ["order"] * 2 + ["texts"] * 2
    files = {row.task: {pathlib.Path(part.where).name.split(":")[0] for part in row.parts} for row in rows}
    assert files == {"words": {"docs.jsonl"}, "order": {"docs.jsonl"}, "texts": {"half.jsonl"}}
    pairs = [[part.item for part in row.parts] for row in rows if row.task == "order"]
    assert all(items == [i for i in range(1, len(items) // 2 + 1) for _ in "ab"] for items in pairs)


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tasks") / "run"
    return workdir, finish(start(workdir, "--config.show_batch=1", "--config.check_isolation=true"))


def test_isolation_is_shown_for_the_rows_of_every_task(trained):
    workdir, output = trained
    lines = [json.loads(line) for line in (workdir / "isolation.jsonl").read_text().splitlines()]
    assert [line["task"] for line in lines] == ["words", "order", "texts"] and all(x["passed"] for x in lines)
    assert output.count("packed = alone") == 3


def test_every_task_is_shown_measured_and_compared(trained):
    workdir, output = trained
    for name in ("words", "order", "texts"):
        assert f"task {name}:\n" in output and f"task {name}: " in output
    assert output.count("unigram cross-entropy of the same tokens") == 2, "contrastive predicts no tokens"
    names = {name for line in metrics(workdir) for name in line}
    for split in ("train", "eval"):
        for name in ("words/mlm_loss", "order/sop_accuracy", "texts/uniformity", "texts/contrastive_loss"):
            assert f"{split}/{name}" in names
    final = metrics(workdir)[-1]
    parts = {"words/mlm": 1.0, "order/mlm": 0.5, "order/sop": 0.5, "texts/contrastive": 0.1}
    total = sum(weight * final[f"eval/{name}_loss"] for name, weight in parts.items())
    assert final["eval/loss"] == pytest.approx(total, rel=1e-6)


def test_the_checkpoint_names_the_rows_of_every_task(trained):
    workdir, _ = trained
    checkpoints, step = open_run(workdir)
    saved = checkpoints.meta(step)["fingerprints"]
    for name in ("words", "order", "texts"):
        assert saved[f"stage 0 rows of {name}"] and saved[f"stage 0 held-out rows of {name}"]
    assert len(set(saved.values())) == len(saved) == 1 + 2 * 3


def test_a_killed_run_ends_in_the_same_bits(trained, start, tmp_path):
    workdir = tmp_path / "killed"
    finish(start(workdir, JAXLM_FAULT="kill@step=19"), -signal.SIGKILL)
    assert "resumed from the checkpoint of step" in finish(start(workdir))
    assert metrics(workdir) == metrics(trained[0])
    for x, y in zip(weights(workdir, 24), weights(trained[0], 24), strict=True):
        assert np.array_equal(x, y, equal_nan=True)


def test_bad_steps_name_the_rows_of_every_task(start, tmp_path):
    fault = ",".join(f"nan@step={step}" for step in range(3, 13))
    finish(start(tmp_path / "run", "--config.non_finite_limit=3", JAXLM_FAULT=fault), 70)
    (dump,) = (tmp_path / "run" / "crash").glob("non_finite-step-*.json")
    found = json.loads(dump.read_text())["tasks"]
    assert found.keys() == {"words", "order", "texts"}
    assert found["words"]["rows"][0] <= 2 * 4 and found["texts"]["rows"][0] <= 2 * 2
    assert all(len(task["items"]) == task["rows"][1] - task["rows"][0] + 1 for task in found.values())


def run_of(corpus, corpora, *overrides):
    return flags.parse(
        ["train", f"--config={RECIPE}", f"--config.data.corpus={corpus}", *corpora, *overrides]
    ).run


def test_rows_that_do_not_divide_are_refused_by_name(corpus, corpora):
    with pytest.raises(UserError, match=r"tasks are 4 \(words\) \+ 2 \(order\) \+ 2 \(texts\) = 8"):
        run_of(corpus, corpora, "--config.batch_size=9")
    with pytest.raises(UserError, match="the loss of DropoutContrastive"):
        run_of(corpus, corpora, "--config.accumulate=2")
    run = run_of(corpus, corpora)
    grid = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    with pytest.raises(UserError, match=r"config.objective.tasks\[1\].rows=2: .* multiple of 4"):
        streams.check_rows(run, grid)


def test_tasks_over_one_corpus_share_its_shards_but_neither_rows_nor_draws(corpus, corpora, tmp_path):
    run = run_of(corpus, corpora, f"--config.data.cache={tmp_path}")
    run.stages = (dataclasses.replace(run.stages[0], share=0.5),) * 2
    text = inputs.text(run, lambda _: None)
    words, order, texts = text.streams
    assert words.sources[""]["train"] is order.sources[""]["train"] is not texts.sources[""]["train"]
    assert len(texts.sources[""]["train"]) < len(words.sources[""]["train"])
    assert len({stream.seed for stream in text.streams}) == 3
    assert len(list((tmp_path / "tokenizers").glob("w*"))) == 1, "one tokenizer, of the main corpus"
    again = inputs.rows(run, text, run.stages[0], "train")
    seeds = [r.rows.seed for r in again] + [
        r.rows.seed for r in inputs.rows(run, text, run.stages[0], "train", number=1)
    ]
    assert len(set(seeds)) == 6


def test_data_of_a_task_must_be_data(corpus, corpora):
    run = run_of(corpus, corpora)
    run.objective.tasks[1].data = "some/folder"
    with pytest.raises(UserError, match=r"tasks\[1\].data='some/folder'"):
        streams.tasks(run)
