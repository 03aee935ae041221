"""Whole runs as a user starts them: ending them, and whether two ended in the same bits."""

import functools
import json
import pathlib
import signal
import subprocess
from collections.abc import Callable

import jax
import numpy as np

from jaxlm.checkpoint import storage
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import Run
from jaxlm.partition import mesh as meshes
from jaxlm.run import inputs, seen
from jaxlm.run.attested import Attested, Stretch, replayed
from jaxlm.run.seen import SeenRow

# Wall-clock measurements differ between any two runs; everything else must not.
CLOCKS = ("time/", "throughput/")
# Runs of the tiny recipe that are about neither steps nor stages share their compiled programs.
FEW = ("--config.steps=12", "--config.stages=(Stage(length=32, share=1.0),)")


def finish(process: subprocess.Popen, code: int = 0, *, seconds: float = 200) -> str:
    """What the run said, ended with this code."""
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, output
    return output


def killed_and_whole(
    start: Callable[..., subprocess.Popen], root: pathlib.Path, *, at: int, resumed: str
) -> tuple[pathlib.Path, pathlib.Path]:
    """(folder of a run that was killed before step `at` and resumed, that of one that was not).

    `start(workdir, JAXLM_FAULT=...)` starts one; `resumed`: how the line of the resumption goes on.
    """
    finish(start(root / "whole", JAXLM_FAULT=""))
    finish(start(root / "killed", JAXLM_FAULT=f"kill@step={at}"), -signal.SIGKILL)
    output = finish(start(root / "killed", JAXLM_FAULT=""))
    assert f"resumed from the checkpoint of step{resumed}" in output
    return root / "killed", root / "whole"


def metrics(workdir: pathlib.Path) -> list[dict]:
    """The lines of metrics.jsonl without clocks."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(CLOCKS)} for line in lines]


def final_state(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path, on whatever devices it was saved."""
    like: dict = {}
    for name, about in Checkpoints(workdir / "checkpoints", None).arrays(step).items():
        *folders, last = name.split("/")
        inside = functools.reduce(lambda node, key: node.setdefault(key, {}), folders, like)
        inside[last] = jax.ShapeDtypeStruct(about["shape"], about["dtype"])
    tree = storage.load(workdir / "checkpoints" / str(step), like)
    return {jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree_util.tree_flatten_with_path(tree)[0]}


def attested(workdir: pathlib.Path, step: int) -> dict:
    """What a checkpoint says of the rows that were consumed."""
    return Checkpoints(workdir / "checkpoints", None).meta(step)["stream"]


def consumed_and_replayed(run: Run, cache: pathlib.Path, steps: int) -> tuple[dict, str, list[SeenRow]]:
    """(stream of the first steps as a loop takes them, its replay's hash, the rows of the last step); trains nothing."""
    run.data.cache = str(cache)
    text, mesh, taking = inputs.text(run, lambda line: None), meshes.make(run.mesh), Attested(None, 0)
    rows = inputs.rows(run, text, run.stages[0], "train")
    with inputs.train_feed(text, rows, mesh, start=0, taken=taking.taking(0, 0, 0)) as feed:
        feed.peek()  # reading ahead is not consuming
        for _ in range(steps):
            next(feed)
    read = [Stretch(*one) for one in taking.state()["read"]]
    shown = list(seen.rows_of_step(run, text, read[-1], steps, slice(None)))
    return taking.state(), replayed(run, text, read)[0], shown


def assert_same_run(one: pathlib.Path, other: pathlib.Path, step: int) -> None:
    """The same arrays and stream in the checkpoint of `step`, the same metrics, and no step twice or missing."""
    assert attested(one, step) == attested(other, step)
    a, b = final_state(one, step), final_state(other, step)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name], equal_nan=True), name
    assert metrics(one) == metrics(other)
    steps = [line["step"] for line in metrics(other)]
    assert steps == sorted(set(steps)), "a duplicate or disordered step"
    assert steps == [line["step"] for line in metrics(one)], "a gap"
