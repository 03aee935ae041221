"""Claims about GPT-2 besides parity: dropouts, initial scales, older names, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.gpt2 import Gpt2

CONFIG = Gpt2(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    embedding_dropout=0.0,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-5,
    activation="gelu_tanh",
    init_scale=0.02,
)
TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]], np.int32)
BATCH = Batch(
    tokens_BT=TOKENS,
    segments_BT=np.ones_like(TOKENS),
    positions_BT=np.arange(TOKENS.shape[1], dtype=np.int32)[None],
)


def encoded(config, key=None):
    model = build(config)
    return jax.jit(lambda p: model.bind(p).encode(BATCH, key).x_BTD)(model.init(jax.random.key(0)))


@pytest.mark.parametrize("which", ["embedding_dropout", "dropout", "attention_dropout"])
def test_each_dropout_acts_in_training_only(which):
    config = dataclasses.replace(CONFIG, **{which: 0.5})
    plain = encoded(CONFIG)
    np.testing.assert_array_equal(encoded(config), plain)
    assert np.abs(encoded(config, jax.random.key(1)) - plain).max() > 1e-2


def test_what_ends_a_residual_branch_starts_smaller_by_the_number_of_branches():
    model = build(dataclasses.replace(CONFIG, hidden=64, mlp=208))
    params = jax.jit(model.init)(jax.random.key(3))["blocks"]
    ratio = lambda a, b: float(jnp.std(a) / jnp.std(b))
    expected = pytest.approx(6**-0.5, rel=0.05)
    assert ratio(params["attention"]["wo"], params["attention"]["wq"]) == expected
    assert ratio(params["mlp"]["w_out"], params["mlp"]["w_in"]) == expected


def test_the_original_files_names_and_their_masks_are_understood():
    model = build(CONFIG)
    params = jax.tree.map(np.asarray, jax.jit(model.init)(jax.random.key(4)))
    tensors = families.export_params(params, CONFIG)
    old = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    assert "wte.weight" in old and "h.0.attn.c_attn.weight" in old
    for layer in range(CONFIG.layers):
        old[f"h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 17, 17), np.float32))
        old[f"h.{layer}.attn.masked_bias"] = np.array(-1e4, np.float32)
    for found in (old, tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}):
        again = families.import_params(found, CONFIG)
        assert jax.tree.all(jax.tree.map(np.array_equal, again, params))
    with pytest.raises(UserError, match="lm_head.weight differs"):
        families.import_params(tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1}, CONFIG)


def test_the_fused_projection_is_queries_keys_values_side_by_side():
    params = jax.tree.map(np.asarray, jax.jit(build(CONFIG).init)(jax.random.key(5)))
    fused = families.export_params(params, CONFIG)["transformer.h.2.attn.c_attn.weight"]
    parts = [params["blocks"]["attention"][f"w{role}"][2].reshape(36, 36) for role in "qkv"]
    np.testing.assert_array_equal(fused, np.concatenate(parts, axis=1))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
    ],
)
def test_what_our_gpt2_does_not_have_is_refused_by_name(setting, value):
    contents = families.of_config(CONFIG).to_hf_config(CONFIG)
    with pytest.raises(UserError, match=setting):
        families.config_from_hf(contents | {setting: value})
    assert families.config_from_hf(contents | {"reorder_and_upcast_attn": True}) == CONFIG


def test_an_mlp_of_no_stated_width_is_four_times_as_wide():
    contents = families.of_config(CONFIG).to_hf_config(CONFIG)
    assert families.config_from_hf(contents | {"n_inner": None}).mlp == 144


def test_rows_longer_than_the_positions_are_refused():
    with pytest.raises(UserError, match="rows are 18 tokens long"):
        CONFIG.check_row_length(18, "config.model")
