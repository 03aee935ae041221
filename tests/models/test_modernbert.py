"""Claims about ModernBERT: what a window lets through, packed rows with windows, configs that are refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.modernbert import ModernBert

CONFIG = ModernBert(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=3,
    mlp=44,
    activation="gelu",
    max_positions=40,
    window=6,
    global_every=3,
    global_base=160000.0,
    local_base=100.0,
    dropout=0.0,
    norm_epsilon=1e-5,
    init_scale=0.2,
)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def params_of(model):
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), jnp.float32), model.shapes)


def row(lengths, seed=0):
    rng, total = np.random.default_rng(seed), sum(lengths)
    return Batch(
        tokens_BT=rng.integers(1, 101, (1, total)).astype(np.int32),
        segments_BT=np.repeat(np.arange(1, len(lengths) + 1), lengths).astype(np.int32)[None],
        positions_BT=np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)[None],
    )


def test_a_token_is_seen_half_a_window_away_in_every_local_layer_and_no_farther():
    """With the global layer's attention silenced, what a token changes shows how far two local layers reach: 2 * 3."""
    model = build(CONFIG)
    params, batch, at = params_of(model), row([31]), 15
    params["first"]["attention"]["wo"] *= 0
    encode = jit(lambda p, b: model.bind(p).encode(b, None).x_BTD)
    changed = dataclasses.replace(batch, tokens_BT=batch.tokens_BT.copy())
    changed.tokens_BT[0, at] = 1 + batch.tokens_BT[0, at] % 100
    differs = np.abs(encode(params, batch) - encode(params, changed))[0].max(-1) > 0
    reached = np.flatnonzero(differs)
    assert (reached.min(), reached.max()) == (at - 6, at + 6)


def test_packed_items_longer_than_the_window_give_what_they_give_alone():
    model = build(CONFIG)
    params, lengths = params_of(model), (11, 7, 13)
    together = row(lengths)
    encode = jit(lambda p, b: model.bind(p).encode(b, None).x_BTD)
    packed, start = encode(params, together), 0
    for length in lengths:
        cut = slice(start, start + length)
        alone = jax.tree.map(lambda x, cut=cut: x[:, cut], together)
        np.testing.assert_allclose(packed[:, cut], encode(params, alone), rtol=2e-5, atol=2e-5)
        start += length


def test_dropout_is_on_in_training_alone_and_the_same_in_both_loops():
    model = build(dataclasses.replace(CONFIG, layers=6, dropout=0.3))
    other = build(dataclasses.replace(CONFIG, layers=6, dropout=0.3, layer_loop="scan", remat="block"))
    params, batch = params_of(model), row([17])
    run = lambda m, key: jit(lambda p: m.bind(p).encode(batch, key).x_BTD)(params)
    np.testing.assert_allclose(
        run(model, jax.random.key(1)), run(other, jax.random.key(1)), rtol=1e-4, atol=1e-4
    )
    assert np.abs(run(model, None) - run(model, jax.random.key(1))).max() > 0.1


@pytest.mark.parametrize("key", ["norm_bias", "attention_bias", "mlp_bias", "classifier_bias"])
def test_biases_are_refused_by_name(key):
    hf = families.to_hf_config(CONFIG) | {key: True}
    with pytest.raises(UserError, match=f"{key}=True is not supported"):
        families.config_from_hf(hf)


def test_layers_that_do_not_alternate_as_published_are_refused():
    kinds = [
        "full_attention",
        "sliding_attention",
        "sliding_attention",
        "sliding_attention",
        "full_attention",
    ]
    hf = families.to_hf_config(CONFIG) | {"num_hidden_layers": 5}
    assert families.config_from_hf(hf | {"layer_types": kinds}).global_every == 4
    with pytest.raises(UserError, match="every n-th from the first is global"):
        families.config_from_hf(
            hf | {"layer_types": [*kinds[:2], "full_attention", *kinds[:2]][:4] + kinds[:1]}
        )


def test_an_older_config_json_without_layer_types_gives_the_same_model():
    hf = families.to_hf_config(CONFIG)
    older = {k: v for k, v in hf.items() if k not in ("layer_types", "rope_parameters")}
    assert families.config_from_hf(older) == CONFIG


def test_an_odd_window_is_refused():
    with pytest.raises(UserError, match=r"config\.model\.window=7: must be even"):
        dataclasses.replace(CONFIG, window=7).validate("config.model")
