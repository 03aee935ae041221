"""ELECTRA's pair goes out as two folders, and comes back from them as the same pair."""

import jax
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.exchange import exporting, model_folder, pairs
from jaxlm.models.build import build
from jaxlm.models.electra import Electra
from jaxlm.models.heads import Detect, Tokens
from jaxlm.models.paths import flatten

SIZES = dict(vocab_size=101, embedding=12, hidden=24, layers=2, heads=4, mlp=40, max_positions=17, types=2)


def config() -> Electra:
    import dataclasses

    names = {field.name for field in dataclasses.fields(Electra)}
    rest = dict(
        dropout=0.0,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        activation="gelu",
        init_scale=0.02,
        position_init="normal",
        generator_hidden=16,
        generator_layers=2,
        generator_heads=2,
        generator_mlp=28,
    )
    return Electra(**{name: value for name, value in (SIZES | rest).items() if name in names})


def test_a_pair_becomes_two_folders_and_is_put_together_again(tmp_path):
    rng = np.random.default_rng(0)
    pair, heads = config(), {"tokens": Tokens(), "replaced": Detect()}
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f"), build(pair, heads).shapes)
    for tree in (params["discriminator"]["embeddings"]["tokens"], params["heads"]["tokens"]):
        for name in ("table", "b_vocab"):
            if name in tree:
                tree[name][101:] = 0
    model_folder.write(
        tmp_path / "model",
        pair,
        heads,
        params,
        origin={"from": "", "kind": "", "tensors": {}},
        fingerprint="",
        tokenizer={},
        files={},
        say=print,
    )
    exporting.to_hf(tmp_path / "model", tmp_path / "hf", say=print, dtype="float32")
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == ["discriminator", "generator"]
    back = pairs.open_any(f"hf:{tmp_path / 'hf'}", say=print)
    assert back.config == pair and back.heads == heads
    expected = flatten(params)
    assert set(back.shapes) == set(expected)
    assert all(np.array_equal(back.host(path), expected[path]) for path in expected)


def test_half_a_pair_is_refused(tmp_path):
    from tests.exchange.folders import hf_folder

    for name in ("discriminator", "generator"):
        hf_folder(tmp_path / name)
    with pytest.raises(UserError, match="are not the two models of a pair"):
        pairs.open_any(f"hf:{tmp_path}", say=print)
