"""Model folders of tiny models of any kind, for the tests beside this file."""

import json
import pathlib

import jax
import numpy as np

from jaxlm.data.tokens import wordpiece
from jaxlm.exchange import model_folder
from jaxlm.models.build import build

TEXTS = ["the cat sat on the mat", "a dog and a cat play in the garden", "the garden has a red door"] * 30
VOCAB = 101  # of the models of small_models.py


def folder(path: pathlib.Path, config, heads=None) -> pathlib.Path:
    """A model folder of `config` with random weights, and a tokenizer."""
    model, rng = build(config, heads), np.random.default_rng(1)

    def drawn(path, leaf):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        values = rng.normal(centre, 0.25, leaf.shape).astype(np.float32)
        if path[-1].key == "table" and len(values) > VOCAB:
            values[VOCAB:] = 0  # the embeddings' padding, as in every model of ours
        return values

    tokenizer = wordpiece.train(TEXTS, 90, True)
    files = path.with_name(path.name + "-tokenizer")
    files.mkdir()
    tokenizer.save(files)
    generation = {"decoder_start_token_id": 0, "eos_token_id": 3, "is_encoder_decoder": True}
    model_folder.write(
        path,
        config,
        heads or {},
        jax.tree_util.tree_map_with_path(drawn, model.shapes),
        origin={},
        fingerprint=tokenizer.fingerprint,
        tokenizer={file.name: file.read_bytes() for file in files.iterdir()},
        files={"config.json": json.dumps(generation).encode()},
        say=lambda _: None,
    )
    return path
