"""Norms against float64 numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.models.norm import LayerNorm, RmsNorm

X = np.random.default_rng(0).normal(3.0, 2.0, (4, 7))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(bias):
    norm = LayerNorm(7, 1e-3, bias=bias)
    norm.scale.set_value(jnp.arange(7.0))
    expected = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-3) * np.arange(7)
    if bias:
        norm.bias.set_value(jnp.full(7, 0.5))
        expected += 0.5
    assert hasattr(norm, "bias") == bias
    np.testing.assert_allclose(norm(jnp.asarray(X, jnp.float32)), expected, atol=1e-5)


def test_rms_norm():
    norm = RmsNorm(7, 1e-3)
    norm.scale.set_value(jnp.arange(7.0))
    expected = X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-3) * np.arange(7)
    np.testing.assert_allclose(norm(jnp.asarray(X, jnp.float32)), expected, atol=1e-5)


def test_bfloat16_comes_back_as_bfloat16_from_float32_arithmetic():
    x = jnp.full(
        (1, 512), 300.0, jnp.bfloat16
    )  # a sum of squares in bfloat16 would be off by several percent
    assert RmsNorm(512, 1e-6)(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(RmsNorm(512, 1e-6)(x).astype(jnp.float32), 1.0, rtol=1e-2)
