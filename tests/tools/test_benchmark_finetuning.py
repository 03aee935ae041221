"""Claims about tools/benchmark_finetuning.py: both sides train on the same examples, to the token, and count them."""

import argparse
import contextlib
import sys

import numpy as np
import pytest

from tests.commands.test_evaluate import rows
from tests.exchange.folders import hf_folder
from tests.objectives.small import write
from tests.tools.started import ROOT


class Script:
    """A pipe whose other end asks for two blocks."""

    def __init__(self):
        self.asked, self.found = [1, 2, 0], []

    def recv(self):
        return self.asked.pop(0)

    def send(self, block):
        self.found.append(block)


@pytest.mark.slow
def test_both_sides_train_on_the_same_examples(tmp_path, monkeypatch):
    for package in ("torch", "transformers", "peft", "accelerate"):
        pytest.importorskip(package, reason=f"needs the extra `parity` ({package})")
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    import benchmark_finetuning

    write(tmp_path / "train.csv", rows(90))
    folder = hf_folder(tmp_path / "bert")
    flags = [f"--config.data.cache={tmp_path / 'cache'}", "--config.objective.max_tokens=20"]
    flags += ["--config.stages[0].length=32", "--config.batch_size=8"]
    options = argparse.Namespace(
        recipe=str(ROOT / "configs/classification.py"),
        model=str(folder),
        data=str(tmp_path / "train.csv"),
        flags=flags,
        batch_size=8,
    )
    run = benchmark_finetuning.of_options(options)
    found = benchmark_finetuning.examples(run)
    assert 60 < len(found) < 90 and {int(one["labels"]) for one in found} == {0, 1}
    batch = benchmark_finetuning.collate(found[:3])
    assert batch["attention_mask"].sum(1).tolist() == [one["length"] for one in found[:3]]
    for serve, most in ((benchmark_finetuning.ours, 8 * 8), (benchmark_finetuning.theirs, 8)):
        pipe = Script()
        with contextlib.suppress(SystemExit):
            serve(pipe, options)
        first, second = pipe.found
        assert 0 < first.examples <= most and 0 < second.examples <= 2 * most and len(second.losses) == 2
        assert first.examples * 4 < first.useful <= first.tokens and np.isfinite(second.losses).all()
