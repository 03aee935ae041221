"""Claims about repeated blocks: kinds take turns, scan equals the loop, whatever is left over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxlm.models import parameters, stack
from jaxlm.models.encoded import Encoded, Extras

WIDTH = 5


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.w = parameters.weight(rngs, (WIDTH, WIDTH), ("embed", None), 0.5)

    def __call__(self, x, key, kind):
        noise = 0 if key is None else jax.random.normal(key, x.shape)
        return jnp.tanh(x @ self.w[...]) * kind + noise


def by_hand(weights, x, keys, kinds):
    for i, w in enumerate(np.asarray(weights)):
        noise = 0 if keys is None else jax.random.normal(keys[i], x.shape)
        x = jnp.tanh(x @ w) * kinds[i % len(kinds)] + noise
    return x


def test_auto_unrolls_what_is_not_too_deep_except_on_tpus(monkeypatch):
    assert [stack.resolved(loop, 12) for loop in ("auto", "scan", "unrolled")] == [
        "unrolled",
        "scan",
        "unrolled",
    ]
    for platform, expected in {"gpu": "unrolled", "cuda": "unrolled", "tpu": "scan"}.items():
        monkeypatch.setattr(stack.kernels, "platform", lambda platform=platform: platform)
        assert stack.resolved("auto", 12) == expected and stack.resolved("auto", 80) == "scan"
        assert stack.resolved("scan", 12) == "scan"


@pytest.mark.parametrize("layers", [1, 3, 7])
@pytest.mark.parametrize("kinds", [(1.0,), (2.0, -1.0), (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("loop", ["scan", "unrolled"])
@pytest.mark.parametrize("remat", ["none", "block"])
def test_layers_take_turns_and_each_has_its_key(layers, kinds, loop, remat):
    blocks = stack.stacked(Block, layers, nnx.Rngs(params=0))
    x, key = jnp.linspace(-1, 1, 3 * WIDTH).reshape(3, WIDTH), jax.random.key(1)
    call = lambda block, x, rows, key, kind: block(x + rows, key, kind) - rows
    options = dict(layers=layers, loop=loop, remat=remat, pattern=kinds)
    weights = blocks.w[...]
    found, _ = stack.run(call, blocks, x, jnp.zeros_like(x), key, **options)
    np.testing.assert_allclose(
        found, by_hand(weights, x, jax.random.split(key, layers), kinds), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        stack.run(call, blocks, x, jnp.zeros_like(x), None, **options)[0],
        by_hand(weights, x, None, kinds),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("layers", [2, 7])
@pytest.mark.parametrize("loop", ["scan", "unrolled"])
def test_what_a_layer_remembers_is_seen_by_that_layer_only(layers, loop):
    blocks = stack.stacked(Block, layers, nnx.Rngs(params=0))
    memory = jnp.arange(float(layers))

    def call(block, x, memory, layer, kind):
        return x + memory[layer] * kind, memory.at[layer].add(10 * kind)

    x, after = stack.run_cached(
        call, blocks, jnp.zeros(3), memory, layers=layers, loop=loop, pattern=(1.0, 2.0, 4.0)
    )
    kinds = np.array([(1.0, 2.0, 4.0)[i % 3] for i in range(layers)])
    np.testing.assert_allclose(after, np.arange(layers) + 10 * kinds)
    np.testing.assert_allclose(x, (np.arange(layers) * kinds).sum().repeat(3))


@pytest.mark.parametrize("layers", [2, 7])
@pytest.mark.parametrize("loop", ["scan", "unrolled"])
@pytest.mark.parametrize("remat", ["none", "block"])
def test_extras_of_blocks_come_back_in_the_order_of_the_layers(layers, loop, remat):
    blocks = stack.stacked(Block, layers, nnx.Rngs(params=0))
    options = dict(layers=layers, loop=loop, remat=remat, pattern=(1.0, 2.0, 4.0))

    def call(block, x, rows, key, kind):
        return x + rows, Extras(terms={"balance": (x.sum() * kind, jnp.float32(3))}, values=x)

    x, extras = stack.run(call, blocks, jnp.zeros(WIDTH), jnp.ones(WIDTH), None, **options)
    kinds = np.array([(1.0, 2.0, 4.0)[i % 3] for i in range(layers)])
    encoded = Encoded.of(x, extras)
    np.testing.assert_allclose(encoded.layers, np.arange(layers)[:, None].repeat(WIDTH, 1))
    np.testing.assert_allclose(
        encoded.terms["balance"], (WIDTH * (np.arange(layers) * kinds).sum(), 3 * layers)
    )
