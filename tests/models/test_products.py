"""Claims about the products of attention: they and their gradients are those of numpy, in float64 and in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.models import products

ROWS, KEYS, WIDTH = 7, 5, 3


def drawn(*shape):
    return np.random.default_rng(sum(shape)).normal(size=(2, 3, *shape))


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_scores_and_weighted_values_and_what_goes_back(dtype, error, platform, monkeypatch):
    monkeypatch.setattr(products.kernels, "platform", lambda: platform)
    q, k, v = drawn(ROWS, WIDTH), drawn(KEYS, WIDTH), drawn(KEYS, WIDTH)
    p, g, h = drawn(ROWS, KEYS), drawn(ROWS, KEYS), drawn(ROWS, WIDTH)
    cast = lambda *arrays: [jnp.asarray(a, dtype) for a in arrays]
    found, back = jax.vjp(products.scores, *cast(q, k))
    assert found.dtype == jnp.float32
    turn = lambda a: a.swapaxes(-1, -2)
    close(found, q @ turn(k), error)
    for one, want in zip(back(jnp.asarray(g, jnp.float32)), (g @ k, turn(g) @ q), strict=True):
        assert one.dtype == dtype
        close(one, want, error)
    found, back = jax.vjp(products.weighted, *cast(p, v))
    close(found, p @ v, error)
    for one, want in zip(back(jnp.asarray(h, dtype)), (h @ turn(v), turn(p) @ h), strict=True):
        assert one.dtype == found.dtype == dtype
        close(one, want, error)


def close(found, want, error):
    assert np.abs(np.asarray(found, np.float64) - want).max() < error * np.abs(want).max()


def test_nothing_of_the_backward_pass_multiplies_in_float32():
    q_BKRH, k_BKSH = (jnp.asarray(drawn(*s), jnp.bfloat16) for s in ((ROWS, WIDTH), (KEYS, WIDTH)))
    total = lambda q, k: (products.scores(q, k) * jnp.asarray(drawn(ROWS, KEYS), jnp.float32)).sum()
    program = str(jax.make_jaxpr(jax.grad(total, (0, 1)))(q_BKRH, k_BKSH))
    made = [line.split(" = ")[0] for line in program.splitlines() if "dot_general" in line]
    assert len(made) == 3 and sum("f32" in one and "bf16" not in one for one in made) == 1, made
