"""Rotation on a TPU is written as a product; the numbers are the same to the bit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.models import rope


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_halves_are_exchanged_by_a_product_to_the_bit(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3, 64)), dtype)
    np.testing.assert_array_equal(rope._by_matmul(x), rope._by_halves(x))
