"""Claims about RoBERTa: where positions begin, and which heads a file gives."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.roberta import Roberta

CONFIG = Roberta(
    vocab_size=101,
    hidden=36,
    layers=1,
    heads=4,
    mlp=56,
    max_positions=11,
    first_position=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-5,
    activation="gelu",
    init_scale=0.2,
)


def params_of(*heads):
    rng, model = np.random.default_rng(3), build(CONFIG, families.named(CONFIG, heads))
    return jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), model.shapes)


def test_the_first_rows_of_the_positions_are_never_used_and_the_last_one_is():
    model, params = build(CONFIG), params_of()
    line = np.arange(11, dtype=np.int32)[None]
    batch = Batch(
        tokens_BT=line + 5, segments_BT=line * 0 + 1, positions_BT=line, types_BT=(line > 4).astype(np.int32)
    )
    grads = jax.jit(jax.grad(lambda p: (model.bind(p).encode(batch, None).x_BTD[..., 0] ** 2).sum()))(params)
    used = np.abs(grads["embeddings"]["positions"]).max(-1) > 0
    assert used.tolist() == [False] * 2 + [True] * 11


def test_a_published_file_has_a_pooler_beside_its_token_head():
    tensors = families.export_params(params_of("tokens", "pooler"), CONFIG)
    hf = families.to_hf_config(CONFIG, ("tokens", "pooler"))
    assert families.config_from_hf(hf, list(tensors)) == CONFIG
    assert list(families.heads(CONFIG, tensors)) == ["tokens", "pooler"]
    tensors = families.export_params(params_of("pooler"), CONFIG)
    assert "embeddings.word_embeddings.weight" in tensors
    assert list(families.heads(CONFIG, tensors)) == ["pooler"]


def test_what_transformers_would_compute_otherwise_is_refused():
    with pytest.raises(UserError, match="always uses 'gelu'"):
        families.to_hf_config(dataclasses.replace(CONFIG, activation="relu"), ("tokens",))
    hf = families.to_hf_config(CONFIG)
    with pytest.raises(UserError, match="type_vocab_size=2"):
        families.config_from_hf(hf | {"type_vocab_size": 2})
