"""Folders that the tests of jaxlm.exchange share: a tiny BERT with its tokenizer, as transformers would save it."""

import dataclasses
import json
import pathlib

import jax
import numpy as np

from jaxlm.convert import families
from jaxlm.data.tokens import wordpiece
from jaxlm.formats import safetensors_file
from jaxlm.models.bert import Bert
from jaxlm.models.build import build

TEXTS = ["the cat sat on the mat", "a dog and a cat play in the garden", "the garden has a red door"] * 30
SIZE = 150
CONFIG = Bert(
    vocab_size=SIZE,
    hidden=24,
    layers=3,
    heads=4,
    mlp=40,
    max_positions=32,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.02,
    position_init="normal",
)


HEADS = ("tokens", "pooler", "nsp")


def params(config: Bert = CONFIG, seed: int = 0, heads: tuple[str, ...] = HEADS) -> dict:
    """Every number different; padding is zero."""
    rng = np.random.default_rng(seed)
    shapes = build(config, families.named(config, heads)).shapes
    tree = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=0.1).astype("f"), shapes)
    return families.import_params(families.export_params(tree, config), config)


def tokenizer(size: int = SIZE):
    return wordpiece.train(TEXTS, size, True)


def hf_folder(
    path: pathlib.Path, config: Bert = CONFIG, *, seed: int = 0, heads: tuple[str, ...] = HEADS
) -> pathlib.Path:
    """A Hugging Face folder of `params`."""
    path.mkdir(parents=True, exist_ok=True)
    trained = tokenizer()
    config = dataclasses.replace(config, vocab_size=max(trained.size, config.vocab_size))
    safetensors_file.save(
        path / "model.safetensors", families.export_params(params(config, seed, heads), config)
    )
    contents = families.to_hf_config(config, heads) | {"strange": [1, {"b": 2}]}
    (path / "config.json").write_text(json.dumps(contents))
    trained.save(path)
    return path
