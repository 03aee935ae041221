"""Model folders that the tests of jaxlm.compress share: a tiny decoder and a tiny encoder, far from their initial weights."""

import dataclasses
import pathlib

import jax

from jaxlm.data import tokenizer
from jaxlm.exchange import model_folder
from jaxlm.infer import loaded
from jaxlm.infer.loaded import Loaded
from jaxlm.models.build import build
from jaxlm.partition.mesh import Mesh
from tests.exchange import folders
from tests.infer.small_models import LLAMA

TEXTS = ["the cat sat on the mat", "a dog and a cat play in the garden", "the garden has a red door"]
ONE = Mesh(data=1)


def decoder(folder: pathlib.Path) -> pathlib.Path:
    """Its folder."""
    words = tokenizer.train(tokenizer.WordPiece(vocab_size=120, lowercase=True), TEXTS * 30)
    config = dataclasses.replace(
        LLAMA, vocab_size=words.size, hidden=32, head_dim=8, heads=4, mlp=64, embeddings="tied"
    )
    return _written(folder, config, words)


def encoder(folder: pathlib.Path) -> pathlib.Path:
    """Its folder."""
    words = folders.tokenizer()
    config = dataclasses.replace(folders.CONFIG, vocab_size=words.size, hidden=32, mlp=64)
    return _written(folder, config, words)


def _written(folder: pathlib.Path, config, words) -> pathlib.Path:
    model = build(config)
    params = jax.tree.map(lambda a: a * 5 if a.ndim > 1 else a, jax.jit(model.init)(jax.random.key(1)))
    folder.with_suffix(".words").mkdir()
    words.save(folder.with_suffix(".words"))
    files = {path.name: path.read_bytes() for path in folder.with_suffix(".words").iterdir()}
    origin = {"from": "a test", "kind": "test", "tensors": {}, "copies": {}, "buffers": [], "metadata": {}}
    about = {
        "origin": origin,
        "fingerprint": words.fingerprint,
        "tokenizer": files,
        "files": {},
        "say": print,
    }
    model_folder.write(folder, config, {}, params, **about)
    return folder


def opened(folder: pathlib.Path) -> Loaded:
    """On one device."""
    return loaded.load(folder, mesh=ONE)
