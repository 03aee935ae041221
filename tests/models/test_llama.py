"""Claims about Llama besides parity: packing, windows, prefixes, the cache, meshes, refusals."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.llama import Llama
from jaxlm.models.rope import Linear, Rope, Unscaled
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

CONFIG = Llama(
    vocab_size=101,
    hidden=36,
    layers=5,
    heads=6,
    kv_heads=2,
    head_dim=10,
    mlp=56,
    activation="silu",
    max_positions=40,
    rope=Rope(base=10000.0, scaling=Unscaled()),
    norm_epsilon=1e-5,
    embeddings="untied",
    biases="qkv",
    qk_norm="head",
    windows=(0, 4, 3),
    init_scale=0.1,
)


@pytest.fixture(scope="module")
def params():
    return jit(build(CONFIG).init)(jax.random.key(0))


def row(*texts, length: int, left: bool = False) -> Batch:
    """One text per row."""
    fields = np.zeros((3, len(texts), length), np.int32)
    for b, text in enumerate(texts):
        span = slice(length - len(text), None) if left else slice(len(text))
        fields[0, b, span], fields[1, b, span], fields[2, b, span] = text, 1, np.arange(len(text))
    return Batch(tokens_BT=fields[0], segments_BT=fields[1], positions_BT=fields[2])


def texts(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(1, 101, n) for n in lengths]


def test_tokens_see_nothing_ahead_and_nothing_beyond_the_windows(params):
    config = dataclasses.replace(CONFIG, windows=(3,), layers=2)
    model = build(config)
    weights = jit(model.init)(jax.random.key(0))
    (text,) = texts(12)
    run = jit(lambda batch: model.bind(weights).encode(batch).x_BTD)
    before = run(row(text, length=12))
    for changed in (0, 5, 11):
        other = text.copy()
        other[changed] = text[changed] % 100 + 1
        moved = np.abs(run(row(other, length=12)) - before)[0].max(-1) > 0
        # Two layers that look back 2 tokens each reach 4 tokens further.
        assert moved.nonzero()[0].tolist() == list(range(changed, min(changed + 5, 12)))


def test_a_prefix_sees_itself_whole(params):
    model, (text,) = build(dataclasses.replace(CONFIG, windows=(0,))), texts(9)
    batch = dataclasses.replace(row(text, length=9), prefix_BT=(np.arange(9)[None] < 4).astype(np.int32))
    run = jit(lambda batch: model.bind(params).encode(batch).x_BTD)
    before, other = run(batch), batch.tokens_BT.copy()
    other[0, 3] = other[0, 3] % 100 + 1
    moved = np.abs(run(dataclasses.replace(batch, tokens_BT=other)) - before)[0].max(-1) > 0
    assert moved.all()
    other = batch.tokens_BT.copy()
    other[0, 6] = other[0, 6] % 100 + 1
    moved = np.abs(run(dataclasses.replace(batch, tokens_BT=other)) - before)[0].max(-1) > 0
    assert moved.nonzero()[0].tolist() == [6, 7, 8]


@pytest.mark.parametrize("loop", ["scan", "unrolled"])
def test_token_by_token_from_the_cache_equals_the_whole_row(params, loop):
    model = build(dataclasses.replace(CONFIG, layer_loop=loop))
    several = texts(11, 6, 9)
    whole = jit(lambda b: model.bind(params).encode(b).x_BTD)(row(*several, length=11))
    prompt, slots = 7, 11  # the first 7 places at once, then one by one; shorter texts are padded on the left
    left = row(*several, length=slots, left=True)

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

    found, used = generate(left)
    assert used == slots
    for b, text in enumerate(several):
        np.testing.assert_allclose(found[b, slots - len(text) :], whole[b, : len(text)], atol=2e-5)


def test_eight_devices_give_what_one_gives(params):
    model, batch = build(CONFIG), row(*texts(9, 12, 7, 11), length=12)

    def loss(params, batch):
        module = model.bind(params)
        return jnp.square(module.predict_tokens(module.encode(batch).x_BTD)[..., :101]).mean()

    expected, grads = jit(jax.value_and_grad(loss))(params, batch)
    mesh = meshes.make(Mesh(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        where = partition.shardings(params, model.axes, mesh)
        placed = jax.device_put(params, where)
        found, sharded = jit(jax.value_and_grad(loss))(
            placed, jax.device_put(batch, partition.batch_sharding(mesh))
        )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(sharded), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(a).max()) + 1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv_heads": 4}, ("model.heads=6", "model.kv_heads=4")),
        ({"head_dim": 9}, ("model.head_dim=9", "even")),
        ({"windows": ()}, ("model.windows",)),
        ({"layers": 0}, ("model.layers=0",)),
        ({"norm_epsilon": 0.0}, ("model.norm_epsilon=0.0",)),
    ],
)
def test_a_wrong_config_is_refused_with_its_key(change, words):
    with pytest.raises(UserError) as caught:
        dataclasses.replace(CONFIG, **change).validate("model")
    assert all(word in str(caught.value) for word in words)


def test_wrong_angles_are_refused_with_their_key():
    with pytest.raises(UserError, match=r"rope\.base=1\.0.*above 1"):
        Rope(base=1.0, scaling=Unscaled()).validate("rope")
    with pytest.raises(UserError, match=r"rope\.scaling\.factor=0\.0"):
        Rope(base=1e4, scaling=Linear(factor=0.0)).validate("rope")


def test_rows_longer_than_the_model_is_meant_for_are_refused():
    with pytest.raises(UserError, match=r"model\.max_positions=40: rows are 41"):
        CONFIG.check_row_length(41, "model")
