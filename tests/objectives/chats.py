"""Rows of conversations for a tiny Llama, and the same weights in transformers."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import jaxlm
from jaxlm.batch import stacked
from jaxlm.config import Run, Stage
from jaxlm.data import pipeline, tokenizer
from jaxlm.data.corpus.columns import Choice, Messages
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.shards import prepare, shards
from tests.data import templates

WORDS = ["who", "wrote", "the", "book", "old", "friend"]


def written(path: pathlib.Path, number: int, seed: int = 0) -> pathlib.Path:
    """Conversations of one to three answers, each with a pair of answers to its last question."""
    rng = np.random.default_rng(seed)
    words = lambda: " ".join(rng.choice(WORDS, rng.integers(1, 7)))
    rows = []
    for _ in range(number):
        said = [("user", "assistant")[i % 2] for i in range(2 * int(rng.integers(1, 4)))]
        messages = [{"role": role, "content": words()} for role in said]
        rows.append(
            {"messages": messages, "prompt": words(), "chosen": f"{words()} yes", "rejected": f"{words()} no"}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe(name: str, corpus: pathlib.Path, place: pathlib.Path, length: int) -> Run:
    """The recipe with a model of one layer; tokenizer and cache stand in `place`."""
    run = jaxlm.load_recipe(name)
    folder = templates.folder(place / "model", templates.MISTRAL)
    made = tokenizer.load(folder)
    sizes = {"hidden": 32, "layers": 1, "heads": 2, "mlp": 48, "max_positions": length}
    run.model = dataclasses.replace(run.model, **sizes, vocab_size=made.size)
    run.tokenizer = tokenizer.Pretrained(path=str(folder))
    run.data.corpus, run.data.cache, run.data.validation_share = str(corpus), str(place / "cache"), 0.25
    run.stages, run.batch_size = (Stage(length=length, share=1.0),), 8
    run.steps, run.generate, run.check_isolation = 40, (), False
    run.optimizer.schedule.peak = 3e-2
    run.evaluation.every_steps = run.checkpoint.every_steps = 20
    run.logging.every_steps = 5
    return run


def rows(
    objective: Any, corpus: pathlib.Path, place: pathlib.Path, length: int, number: int
) -> tuple[Any, Any]:
    """(a batch of the first rows of an objective, the vocabulary)."""
    pair = objective.texts == 2
    text = {"text_fields": ("chosen", "rejected")} if pair else {"text_field": "messages"}
    columns = (Choice(field="prompt") if pair else Messages(field="messages"),)
    config = tokenizer.Pretrained(path=str(templates.folder(place / "model", templates.MISTRAL)))
    text = Corpus(source=str(corpus), validation_share=0.0, test_share=0.0, columns=columns, **text)
    made = prepare.prepare(text, config, sentences=False, cache=place / "cache", log=lambda line: None)
    read = shards.open_shards(made.directory, "train", tokenizer_fingerprint=None)
    vocabulary = made.tokenizer.vocabulary
    found = pipeline.make_rows(
        objective, read, vocabulary, row_length=length, method="best_fit", seed=0, cache=None, train=True
    )
    draws = np.random.default_rng(0)
    return stacked(
        [objective.prepare(found[i], vocabulary, draws, train=True) for i in range(number)]
    ), vocabulary


def one_a_row(batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """(ids, labels) of every segment of a packed batch in a row of its own; labels -100 where nothing is asked."""
    tokens = getattr(batch.targets, "tokens", batch.targets)
    asked = np.full(batch.tokens_BT.shape, -100)
    for b, slot in zip(*np.nonzero(tokens.weights_BM), strict=True):
        asked[b, tokens.places_BM[b, slot] + 1] = tokens.ids_BM[b, slot]
    made = []
    for b, segments in enumerate(batch.segments_BT):
        for number in range(1, segments.max() + 1):
            at = np.flatnonzero(segments == number)
            assert batch.positions_BT[b, at].tolist() == list(range(len(at)))
            made.append((batch.tokens_BT[b, at], asked[b, at]))
    width = max(len(ids) for ids, _ in made)
    ids, labels = np.zeros((len(made), width), np.int64), np.full((len(made), width), -100)
    for i, (one, wanted) in enumerate(made):
        ids[i, : len(one)], labels[i, : len(one)] = one, wanted
    return ids, labels


def shapes(function: Any, *arguments: Any) -> set[tuple[int, ...]]:
    """The shapes of everything that a traced function computes, loops and branches included."""
    found: set[tuple[int, ...]] = set()

    def walk(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            found.update(v.aval.shape for v in equation.outvars if hasattr(v.aval, "shape"))
            for inner in _inner(equation.params):
                walk(inner)

    walk(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs that an equation calls."""
    for value in jax.tree.leaves(
        list(params.values()), is_leaf=lambda one: hasattr(one, "eqns") or hasattr(one, "jaxpr")
    ):
        if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
            yield getattr(value, "jaxpr", value)
