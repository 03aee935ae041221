"""Pruned weights through fine-tuning as a user does it: those that are 0 at the start, and those that become it."""

import dataclasses
import functools
import shutil

import numpy as np
import pytest

import jaxlm
from jaxlm.checkpoint.opened import open_run
from jaxlm.commands import compress, export
from jaxlm.data.tokenizer import Pretrained
from jaxlm.exchange import stored
from jaxlm.formats import safetensors_file
from jaxlm.infer import loaded
from jaxlm.models.paths import flatten
from jaxlm.partition.mesh import Mesh
from jaxlm.views import KeepZeros, Movement
from jaxlm.views.beside import MATRICES
from tests.objectives import small
from tests.objectives.test_classification import rows, write
from tests.runs import assert_same_run

STEPS, SHARE = 24, 0.75
NAMES = {  # of a layer's matrices, ours and transformers'
    "attention/wq": "attention.self.query",
    "attention/wk": "attention.self.key",
    "attention/wv": "attention.self.value",
    "attention/wo": "attention.output.dense",
    "mlp/w_in": "intermediate.dense",
    "mlp/w_out": "output.dense",
}


def recipe(place, name="classification", **changes):
    run = small.recipe(name, place / "train.csv", place / "cache", tokens=120, steps=STEPS)
    run.model.layers = 2
    return dataclasses.replace(run, **changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where train.csv is, `dense` (a run) and `halved` (that run with 2 of 4 weights 0)."""
    place = tmp_path_factory.mktemp("pruned")
    write(place / "train.csv", rows(160))
    assert jaxlm.fit(recipe(place), workdir=place / "dense").code == 0
    prune = f"--config.steps=(Prune(weights='{MATRICES}', share=0.5, of=4, by='magnitude'),)"
    words = [f"--run={place / 'dense'}", f"--output={place / 'halved'}", "--config=compress_shrink", prune]
    assert compress.main(["compress", *words]) == 0
    return place


def started_and_resumed(place, name, run):
    """The folder of a run that goes to its end, which one that is resumed at its middle does in the same bits."""
    assert jaxlm.fit(run, workdir=place / name).code == 0
    again = place / f"{name}_again"
    shutil.copytree(place / name, again)
    shutil.rmtree(again / "checkpoints" / str(STEPS))
    assert jaxlm.fit(run, workdir=again).code == 0
    assert f"resumed from the checkpoint of step {STEPS // 2}" in (again / "run.log").read_text()
    assert_same_run(place / name, again, STEPS)
    return place / name


@pytest.fixture(scope="module")
def halved(place):
    """A run on top of what was pruned."""
    view = (KeepZeros(weights=MATRICES),)
    run = recipe(place, init_from=str(place / "halved"), view=view)
    return started_and_resumed(place, "halved_run", run)


@pytest.fixture(scope="module")
def moved(place):
    """A run that prunes."""
    view = (Movement(weights=MATRICES, share=SHARE, by="movement", begin=0.1, end=0.7),)
    run = recipe(place, "prune_classification", init_from=str(place / "dense"), view=view)
    return started_and_resumed(place, "moved", run)


@functools.cache
def matrices(folder) -> dict[str, np.ndarray]:
    """{path: [layers, inputs, outputs]} as commands read a folder."""
    read = flatten(loaded.load(folder, mesh=Mesh(data=1)).params)
    outer = lambda path: 2 if path.endswith(("wq", "wk", "wv")) else 1  # heads and what is in a head
    found = {path: np.asarray(read[f"blocks/{path}"]) for path in NAMES}
    return {path: w.reshape(2, -1, int(np.prod(w.shape[-outer(path) :]))) for path, w in found.items()}


def exported(folder, target) -> dict[str, np.ndarray]:
    """{path: [layers, inputs, outputs]} as transformers reads the export, whose matrices are outputs x inputs."""
    assert export.main(["export", str(folder), str(target)]) == 0
    read = safetensors_file.load(target / "model.safetensors")
    of = lambda name: np.stack([read[f"bert.encoder.layer.{i}.{name}.weight"].T for i in range(2)])
    return {path: of(name) for path, name in NAMES.items()}


def zeros_of_four(weight) -> np.ndarray:
    """Of neighbouring inputs of every output: [layers, groups, outputs]."""
    return (weight.reshape(2, -1, 4, weight.shape[-1]) == 0).sum(2)


def test_two_of_four_stay_0_and_all_others_move(place, halved, tmp_path):
    before, after = matrices(place / "halved"), matrices(halved)
    out = exported(halved, tmp_path / "hf")
    for path, weight in after.items():
        assert (zeros_of_four(before[path]) == 2).all(), path
        np.testing.assert_array_equal(weight == 0, before[path] == 0, err_msg=path)
        alive = before[path] != 0
        assert (weight[alive] != before[path][alive]).mean() > 0.99, path
        np.testing.assert_array_equal(out[path], weight, err_msg=path)
        assert (zeros_of_four(out[path]) == 2).all(), path


def test_without_the_view_they_would_not(place):
    run = recipe(place, init_from=str(place / "halved"), steps=2)
    run.evaluation.every_steps = run.checkpoint.every_steps = 2
    assert jaxlm.fit(run, workdir=place / "filled").code == 0
    assert all((zeros_of_four(weight) < 2).any() for weight in matrices(place / "filled").values())


def test_exactly_the_share_of_each_matrix_is_0_in_what_is_read_and_exported(place, moved, tmp_path):
    dense, after, out = matrices(place / "dense"), matrices(moved), exported(moved, tmp_path / "hf")
    for path, weight in after.items():
        gone = (weight == 0).reshape(2, -1).sum(1)
        assert gone.tolist() == [round(SHARE * weight[0].size)] * 2, path
        np.testing.assert_array_equal(out[path], weight, err_msg=path)
        smallest = np.abs(dense[path]) < np.quantile(np.abs(dense[path]), SHARE, axis=(1, 2), keepdims=True)
        assert ((weight == 0) != smallest).any(), "by movement, not by size"
    read = flatten(loaded.load(moved, mesh=Mesh(data=1)).params)
    assert not [name for name in read if name.endswith(("_scores", "_gone"))]
    assert stored.best_step(moved) == STEPS and stored.best_step(place / "dense") == STEPS // 2, (
        "as good, sooner"
    )
    half = {line.split("@")[0] for line in open_run(moved, say=print)[0].arrays(STEPS // 2)}
    assert any("_scores" in name for name in half)


def test_what_was_pruned_so_stays_so_in_the_next_run(place, moved, tmp_path):
    exported(moved, tmp_path / "hf")
    run = recipe(place, view=(KeepZeros(weights=MATRICES),), steps=4)
    run.init_from, run.tokenizer = f"hf:{tmp_path / 'hf'}", Pretrained(path=str(moved / "tokenizer"))
    run.evaluation.every_steps = run.checkpoint.every_steps = 4
    assert jaxlm.fit(run, workdir=place / "on").code == 0
    before, after = matrices(moved), matrices(place / "on")
    for path, weight in after.items():
        np.testing.assert_array_equal(weight == 0, before[path] == 0, err_msg=path)
        assert (weight != before[path]).any(), path
