"""Folders that the tests of jaxlm.export share: tiny models with a tokenizer, as transformers would save them."""

import json
import pathlib
from typing import Any

import jax
import numpy as np

from jaxlm.convert import families
from jaxlm.data.tokens import byte_bpe
from jaxlm.exchange.tokenizer_files import for_transformers, of_folder
from jaxlm.formats import safetensors_file
from jaxlm.models import rope
from jaxlm.models.build import build
from jaxlm.models.llama import Llama

CORPUS = [
    "The cat sat on the mat, and the dog sat on the log; it's 1234 times 98.",
    "Ein Café in Zürich: naïve Größe.\n\n  def add(a, b):\n    return a + b",
    "the capital of France is Paris, they'd said",
] * 40
LLAMA: dict[str, Any] = dict(
    vocab_size=400,
    hidden=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=16,
    mlp=96,
    activation="silu",
    max_positions=128,
    rope=rope.Rope(base=5000.0, scaling=rope.Unscaled()),
    norm_epsilon=1e-5,
    embeddings="tied",
    biases="none",
    qk_norm="none",
    windows=(0,),
    init_scale=0.02,
)


def params(config: Any, heads: tuple[str, ...] = (), seed: int = 0, scale: float = 0.25) -> dict:
    """Every number different, and large enough that outputs are no near ties; padding is zero."""
    rng = np.random.default_rng(seed)
    shapes = build(config, families.named(config, heads)).shapes
    tree = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=scale).astype("f"), shapes)
    return families.import_params(families.export_params(tree, config), config, families.named(config, heads))


def save(
    path: pathlib.Path, config: Any, tokenizer: Any = None, heads: tuple[str, ...] = (), seed: int = 0
) -> pathlib.Path:
    """A Hugging Face folder of `params`; a Llama has byte-level BPE unless a tokenizer is given."""
    path.mkdir(parents=True)
    made = families.export_params(params(config, heads, seed), config)
    safetensors_file.save(path / "model.safetensors", made)
    (path / "config.json").write_text(json.dumps(families.to_hf_config(config, heads)))
    (tokenizer or byte_bpe.train(CORPUS, 380, 0, "off")).save(path)
    if tokenizer is None:
        for name, text in for_transformers(
            of_folder(path), "test", causal=True, types=False, length=128
        ).items():
            (path / name).write_bytes(text)
    return path


def llama(path: pathlib.Path, seed: int = 0, **changes: Any) -> pathlib.Path:
    """The folder of a tiny Llama."""
    return save(path, Llama(**{**LLAMA, **changes}), seed=seed)
