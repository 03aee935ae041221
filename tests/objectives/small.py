"""Recipes of fine-tuning, small enough for a test."""

import csv
import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

import jaxlm
from jaxlm.config import Run, Stage


def recipe(name: str, corpus: pathlib.Path, cache: pathlib.Path, *, tokens: int, steps: int) -> Run:
    """One layer, rows of 32 tokens, a vocabulary of `tokens`, two evaluations."""
    run = jaxlm.load_recipe(name)
    sizes = {"hidden": 32, "layers": 1, "heads": 2, "mlp": 48, "vocab_size": tokens, "max_positions": 32}
    run.model = dataclasses.replace(run.model, **sizes)
    run.tokenizer.vocab_size = tokens
    run.data.corpus, run.data.cache, run.data.validation_share = str(corpus), str(cache), 0.25
    run.stages, run.objective.max_tokens = (Stage(length=32, share=1.0),), 28
    run.steps, run.batch_size, run.check_isolation = steps, 8, False
    run.optimizer.schedule.peak = 1e-2
    run.evaluation.every_steps = run.checkpoint.every_steps = steps // 2
    return run


def write(path: pathlib.Path, rows: Iterable[dict[str, Any]]) -> pathlib.Path:
    """A .csv of the rows."""
    found = list(rows)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, found[0])
        writer.writeheader()
        writer.writerows(found)
    return path
