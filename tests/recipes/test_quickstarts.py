"""The tiny recipes learn: each ends under its trivial baseline (minutes each)."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def trained(name: str, workdir: pathlib.Path) -> str:
    """What the command said."""
    words = [sys.executable, "-m", "jaxlm", "train", name, f"--workdir={workdir}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run(words, env=environment, cwd=workdir.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "nats"),
    [("quickstart", 1.8), ("quickstart_gpt", 2.4), ("quickstart_llama", 2.4), ("quickstart_t5", 1.0)],
)
def test_it_is_clearly_below_the_unigram_baseline(name, nats, tmp_path):
    below = re.search(r"the model is ([\d.]+) nats per predicted token below", trained(name, tmp_path / name))
    assert below and float(below[1]) > nats


def test_sentences_find_themselves_among_all_others_of_their_batch(tmp_path):
    trained("quickstart_embeddings", tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if "eval/contrastive_loss" in line][-1]
    assert held_out["eval/contrastive_loss"] < 0.5, "nats; all candidates as near: log(128) = 4.85 at most"
    assert held_out["eval/contrastive_accuracy"] > 0.9
