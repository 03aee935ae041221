"""Claims about all encoder-decoders besides parity: who sees what, the cache, dropout, meshes, rows without a source."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models.bart import Bart
from jaxlm.models.build import build
from jaxlm.models.t5 import T5
from jaxlm.models.transformer import Transformer
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

_SHAPE = {"vocab_size": 101, "hidden": 36, "encoder_layers": 2, "decoder_layers": 3, "heads": 4, "mlp": 56}
_NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
CONFIGS = {
    "T5": T5(
        **_SHAPE,
        head_dim=10,
        activation="gelu_tanh",
        gate="gated",
        head="untied",
        buckets=8,
        max_distance=7,
        dropout=0.0,
        norm_epsilon=1e-6,
        init_factor=1.0,
    ),
    "BART": Bart(
        **_SHAPE, **_NO_DROPOUT, max_positions=17, activation="gelu", norm_epsilon=1e-5, init_scale=0.2
    ),
    "Transformer": Transformer(
        **_SHAPE, **_NO_DROPOUT, max_positions=17, activation="relu", norm_epsilon=1e-5
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture(scope="module")
def params(config):
    return jit(build(config).init)(jax.random.key(0))


def line(texts, length: int, left: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, segments, positions of one text per row."""
    fields = np.zeros((3, len(texts), length), np.int32)
    for b, text in enumerate(texts):
        span = slice(length - len(text), None) if left else slice(len(text))
        fields[0, b, span], fields[1, b, span], fields[2, b, span] = text, 1, np.arange(len(text))
    return fields[0], fields[1], fields[2]


def texts(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.integers(1, 101, n) for n in lengths]


def rows(sources, targets, *, left: bool = False) -> Batch:
    """One pair per row."""
    names = ("tokens", "segments", "positions")
    source = line(sources, max(map(len, sources)))
    target = line(targets, max(map(len, targets)), left)
    return Batch(
        **{f"source_{n}_BS": x for n, x in zip(names, source, strict=True)},
        **{f"{n}_BT": x for n, x in zip(names, target, strict=True)},
    )


def packed(sources, targets) -> Batch:
    """All pairs in one row."""

    def row(texts):
        numbers = [np.full(len(t), n, np.int32) for n, t in enumerate(texts, 1)]
        places = [np.arange(len(t), dtype=np.int32) for t in texts]
        tokens = [np.asarray(t, np.int32) for t in texts]
        return [np.concatenate(x)[None] for x in (tokens, numbers, places)]

    names = ("tokens", "segments", "positions")
    return Batch(
        **{f"source_{n}_BS": x for n, x in zip(names, row(sources), strict=True)},
        **{f"{n}_BT": x for n, x in zip(names, row(targets), strict=True)},
    )


def test_a_target_sees_what_came_before_it_and_all_of_its_own_source(config, params):
    model, sources, targets = build(config), texts(5, 8), texts(6, 7)
    run = jit(lambda batch: model.bind(params).encode(batch).x_BTD)
    before = run(packed(sources, targets))

    def moved(change) -> list[int]:
        others = [t.copy() for t in sources], [t.copy() for t in targets]
        change(*others)
        return (np.abs(run(packed(*others)) - before)[0].max(-1) > 0).nonzero()[0].tolist()

    def second_source(sources, targets):
        sources[1][7] = sources[1][7] % 100 + 1

    def first_target(sources, targets):
        targets[0][4] = targets[0][4] % 100 + 1

    assert moved(second_source) == list(range(6, 13))
    assert moved(first_target) == [4, 5]


@pytest.mark.parametrize("loop", ["scan", "unrolled"])
def test_token_by_token_from_the_cache_equals_the_whole_row(config, params, loop):
    model = build(dataclasses.replace(config, layer_loop=loop))
    sources, targets = texts(4, 11, 7), texts(11, 6, 9)
    whole = jit(lambda b: model.bind(params).encode(b).x_BTD)(rows(sources, targets))
    prompt, slots = 7, 11  # the first 7 places at once, then one by one; shorter texts are padded on the left

    @jit
    def generate(batch):
        module = model.bind(params)
        cache = module.start_cache(batch, slots)
        parts = []
        for start, end in [(0, prompt), *((i, i + 1) for i in range(prompt, slots))]:
            cut = lambda x: x[:, start:end]  # noqa: B023
            x, cache = module.extend(
                cut(batch.tokens_BT), cut(batch.segments_BT), cut(batch.positions_BT), cache
            )
            parts.append(x)
        return jnp.concatenate(parts, 1), cache.used

    found, used = generate(rows(sources, targets, left=True))
    assert used == slots
    for b, text in enumerate(targets):
        np.testing.assert_allclose(found[b, slots - len(text) :], whole[b, : len(text)], atol=5e-5)


def dropped(config, **changes):
    """A number that depends on all features, and every dropout at 0.3."""
    rates = {f.name: 0.3 for f in dataclasses.fields(config) if f.name.endswith("dropout")}
    model, batch = build(dataclasses.replace(config, **rates, **changes)), rows(texts(9, 5), texts(6, 8))

    def loss(params, key):
        return jnp.sin(3 * model.bind(params).encode(batch, key).x_BTD)[batch.segments_BT > 0].mean()

    return loss


def test_dropout_needs_a_key(config, params):
    run = jit(dropped(config))
    values = [float(run(params, key)) for key in (None, jax.random.key(1), jax.random.key(2))]
    plain = float(jit(dropped(config, layer_loop="unrolled"))(params, None))
    assert values[0] == pytest.approx(plain, abs=1e-5)
    assert min(abs(a - b) for a, b in zip(values, [*values[1:], values[0]], strict=True)) > 1e-4


def test_eight_devices_give_what_one_gives():
    config = dataclasses.replace(CONFIGS["T5"], encoder_layers=1, decoder_layers=1)
    model, batch = build(config), rows(texts(9, 12, 7, 11), texts(5, 6, 10, 8))
    params = jit(model.init)(jax.random.key(0))

    def loss(params, batch):
        module = model.bind(params)
        return jnp.square(module.predict_tokens(module.encode(batch).x_BTD)[..., :101]).mean()

    expected, grads = jit(jax.value_and_grad(loss))(params, batch)
    mesh = meshes.make(Mesh(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, partition.shardings(params, model.axes, mesh))
        on_mesh = jax.device_put(batch, partition.batch_sharding(mesh))
        found, sharded = jit(jax.value_and_grad(loss))(placed, on_mesh)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(sharded), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5 * float(jnp.abs(a).max()) + 1e-9)


def test_rows_without_a_source_are_refused_naming_what_has_one(config):
    model, batch = build(config), Batch(**dict.fromkeys(("tokens_BT", "segments_BT", "positions_BT")))
    with pytest.raises(UserError, match=r"encoder-decoder, but the rows have no source.*SpanCorruption"):
        jax.eval_shape(lambda p: model.bind(p).encode(batch).x_BTD, model.shapes)
