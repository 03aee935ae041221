"""Claims about BERT: packing, loops, remat, padding of the vocabulary, precision, sizes, messages."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models import cost
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.models.heads import Classify, Pooler, Tokens

CONFIG = Bert(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.2,
    position_init="normal",
)
HEADS = {"tokens": Tokens(), "pooler": Pooler(), "nsp": Classify(classes=2)}
# float32: sums of a few dozen terms in another order.
ROUNDING = 2e-5
# Unoptimised code compiles three times faster; the programs here run for milliseconds.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def item(rng: np.random.Generator, length: int) -> dict[str, np.ndarray]:
    return {
        "tokens_BT": rng.integers(1, 101, length),
        "positions_BT": np.arange(length),
        "types_BT": (np.arange(length) > length // 2).astype(int),
    }


def row(items: list[dict[str, np.ndarray]], length: int) -> Batch:
    """One packed row: segments 1, 2, ... and padding behind."""

    def line(pieces):
        flat = np.concatenate(pieces)
        return np.pad(flat, (0, length - len(flat))).astype(np.int32)[None]

    fields = {name: line([i[name] for i in items]) for name in items[0]}
    return Batch(
        segments_BT=line([np.full(len(i["tokens_BT"]), n + 1) for n, i in enumerate(items)]), **fields
    )


def batch(rows: int = 2, length: int = 15) -> Batch:
    rng = np.random.default_rng(5)
    made = [row([item(rng, 6), item(rng, 7)], length) for _ in range(rows)]
    return jax.tree.map(lambda *x: np.concatenate(x), *made)


@functools.partial(jit, static_argnums=0)
def run(model, params, batch: Batch, key=None):
    return outputs(model, params, batch, key)


def outputs(model, params, batch: Batch, key=None):
    module = model.bind(params)
    x_BTD = module.encode(batch, key).x_BTD
    return module.predict_tokens(x_BTD), module.classify_pair(x_BTD, "nsp")


def loss(model, params, batch: Batch, key=None):
    logits_BTV, logits_BT2 = outputs(model, params, batch, key)
    weights_BT = (batch.segments_BT > 0).astype(np.float32)
    nats_BT = jax.nn.logsumexp(logits_BTV, -1) - logits_BTV[..., 3]
    return (nats_BT * weights_BT).sum() + (jax.nn.log_softmax(logits_BT2)[..., 1] * weights_BT).sum()


def params_of(model):
    """Normal numbers in the shapes of the model: drawing them here spares compiling `init` again and again."""
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), jnp.float32), model.shapes)
    table = params["embeddings"]["tokens"]
    table["table"] = table["table"].at[model.config.vocab_size :].set(0)
    return params


def test_packed_items_give_what_they_give_alone():
    rng = np.random.default_rng(0)
    model = build(CONFIG, HEADS)
    params = params_of(model)
    items = [item(rng, 5), item(rng, 3), item(rng, 7)]
    tokens, pairs = run(model, params, row(items, 17))
    start = 0
    for one in items:
        length = len(one["tokens_BT"])
        alone_tokens, alone_pairs = run(model, params, row([one], length))
        np.testing.assert_allclose(
            tokens[:, start : start + length], alone_tokens, atol=ROUNDING, rtol=ROUNDING
        )
        np.testing.assert_allclose(
            pairs[:, start : start + length], alone_pairs, atol=ROUNDING, rtol=ROUNDING
        )
        start += length


def test_a_row_of_nothing_but_padding_has_finite_outputs_and_gradients():
    model = build(CONFIG, HEADS)
    empty = Batch(
        **{n: np.zeros((1, 9), np.int32) for n in ("tokens_BT", "segments_BT", "positions_BT", "types_BT")}
    )
    grad = jit(jax.value_and_grad(lambda p: loss(model, p, empty) + outputs(model, p, empty)[1].sum()))
    value, grads = grad(params_of(model))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, grads)))


@functools.cache
def noisy_grads(change: tuple[tuple[str, str], ...]):
    """Loss and gradients with dropout, for CONFIG with those fields changed."""
    model = build(dataclasses.replace(CONFIG, dropout=0.3, attention_dropout=0.2, **dict(change)), HEADS)
    params, key = params_of(model), jax.random.key(1)
    return jit(jax.value_and_grad(lambda p: loss(model, p, batch(), key)))(params)


@pytest.mark.parametrize(
    "change",
    [
        {"layer_loop": "scan"},
        {"remat": "block"},
        {"remat": "dots"},
        {"remat": "attention"},
        {"remat": "offload", "layer_loop": "scan"},
        {"remat": "block", "layer_loop": "scan"},
    ],
    ids=str,
)
def test_neither_the_loop_nor_remat_changes_the_loss_or_gradients(change):
    expected, found = noisy_grads(()), noisy_grads(tuple(change.items()))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, atol=ROUNDING * max(1.0, float(np.abs(a).max())))


def test_padding_of_the_vocabulary_is_never_predicted_and_gets_no_gradient():
    model = build(CONFIG, HEADS)
    params = jit(model.init)(jax.random.key(0))
    table = params["embeddings"]["tokens"]["table"]
    assert table.shape == (128, 36) and not np.asarray(table[101:]).any()
    # Even if the padding held large numbers.
    head = params["heads"]["tokens"]
    head["b_vocab"] = head["b_vocab"].at[101:].set(1e4)
    logits_BTV, _ = run(model, params, batch())
    assert (np.asarray(jax.nn.softmax(logits_BTV)[..., 101:]) == 0).all()
    grads = jit(jax.grad(lambda p: loss(model, p, batch())))(params)
    assert not np.asarray(grads["embeddings"]["tokens"]["table"][101:]).any()
    assert not np.asarray(grads["heads"]["tokens"]["b_vocab"][101:]).any()


def test_bfloat16_is_near_float32_and_its_logits_are_float32():
    full, half = build(CONFIG, HEADS), build(CONFIG, HEADS, dtype="bfloat16")
    params = params_of(full)
    assert jax.eval_shape(lambda p: half.bind(p).encode(batch()).x_BTD, params).dtype == jnp.bfloat16
    for a, b in zip(run(full, params, batch()), run(half, params, batch()), strict=True):
        assert b.dtype == jnp.float32
        real = np.abs(a) < 1e6
        assert np.abs(a - b)[real].max() < 0.05 * np.abs(a)[real].max()
    grads = jit(jax.grad(lambda p: loss(half, p, batch())))(params)
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_dropout_follows_its_key_and_none_means_none():
    model = build(dataclasses.replace(CONFIG, dropout=0.4, attention_dropout=0.4), HEADS)
    params = params_of(model)
    noisy = jit(lambda key: loss(model, params, batch(), key))
    for implementation in ("threefry2x32", "rbg"):
        one, two = jax.random.split(jax.random.key(7, impl=implementation))
        assert noisy(one) == noisy(one) != noisy(two)
    np.testing.assert_array_equal(
        run(model, params, batch())[0], run(build(CONFIG, HEADS), params, batch())[0]
    )


def published(layers: int, hidden: int) -> Bert:
    """The published family: heads of 64, an MLP four times as wide (Devlin et al., 2019; Turc et al., 2019)."""
    sizes = {"layers": layers, "hidden": hidden, "heads": hidden // 64, "mlp": 4 * hidden}
    return dataclasses.replace(CONFIG, vocab_size=30_522, max_positions=512, **sizes)


@pytest.mark.parametrize(
    ("layers", "hidden", "expected"),
    [
        pytest.param(2, 128, 4_385_920, id="tiny"),
        pytest.param(4, 256, 11_170_560, id="mini"),
        pytest.param(4, 512, 28_763_648, id="small"),
        pytest.param(8, 512, 41_373_184, id="medium"),
        pytest.param(12, 768, 109_482_240, id="base"),
        pytest.param(24, 1024, 335_141_888, id="large"),
    ],
)
def test_parameter_counts_are_the_published_ones(layers, hidden, expected):
    """The published counts are of the encoder with its pooler, over 30,522 tokens."""
    shapes = build(published(layers, hidden), {"pooler": Pooler()}).shapes
    padding = (30_592 - 30_522) * hidden
    assert cost.count_parameters(shapes) - padding == expected


def test_heads_are_those_asked_for_and_the_body_is_drawn_alike_under_any():
    bare, full = (jit(build(CONFIG, heads).init)(jax.random.key(0)) for heads in ({}, HEADS))
    assert set(bare) == {"embeddings", "blocks"} and set(full["heads"]) == set(HEADS)
    del full["heads"]
    assert jax.tree.all(jax.tree.map(np.array_equal, bare, full))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 5}, ["run.model.hidden=36", "run.model.heads=5"]),
        ({"layers": 0}, ["run.model.layers=0", "at least 1"]),
        ({"vocab_size": -3}, ["run.model.vocab_size=-3"]),
        ({"dropout": 1.5}, ["run.model.dropout=1.5", "[0, 1)"]),
        ({"attention_dropout": -0.1}, ["run.model.attention_dropout=-0.1"]),
        ({"norm_epsilon": 0.0}, ["run.model.norm_epsilon=0.0", "above 0"]),
    ],
    ids=str,
)
def test_a_wrong_config_is_refused_with_its_key(change, words):
    with pytest.raises(UserError) as caught:
        dataclasses.replace(CONFIG, **change).validate("run.model")
    assert all(word in str(caught.value) for word in words)


def test_the_published_config_is_valid_and_long_rows_are_refused_with_the_fix():
    CONFIG.validate("model")
    CONFIG.check_row_length(17, "model")
    with pytest.raises(UserError, match=r"model\.max_positions=17.*128 tokens.*model\.max_positions=128"):
        CONFIG.check_row_length(128, "model")


def test_weights_start_as_published():
    config = dataclasses.replace(published(2, 128), init_scale=0.02)
    params = jit(build(config).init)(jax.random.key(0))
    weight = np.asarray(params["blocks"]["mlp"]["w_in"])
    assert np.abs(weight).max() <= 0.04 and abs(weight.std() - 0.8796 * 0.02) < 2e-4
    assert not np.array_equal(weight[0], weight[1])
    assert (np.asarray(params["blocks"]["norm_mlp"]["scale"]) == 1).all()
    assert not np.asarray(params["blocks"]["attention"]["bq"]).any()
