"""Claims about `dense`: both ways of multiplying give the same numbers and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxlm.models.dense import dense


@pytest.mark.parametrize(
    ("x", "weight", "contracted", "letters"),
    [
        ((2, 3, 5), (5, 7), 1, "BTD,DF->BTF"),
        ((2, 3, 5), (5, 4, 6), 1, "BTD,DNH->BTNH"),
        ((2, 3, 4, 6), (4, 6, 5), 2, "BTNH,NHD->BTD"),
    ],
)
@pytest.mark.parametrize("devices", [(1, 1), (2, 4)], ids=str)
def test_on_a_cpu_and_on_a_mesh_it_is_the_einsum(x, weight, contracted, letters, devices):
    rng = np.random.default_rng(0)
    x, weight = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (x, weight))
    expected, pull = jax.vjp(lambda x, w: jnp.einsum(letters, x, w), x, weight)
    call = jax.jit(lambda x, w: dense(x, w, contracted=contracted))
    mesh = jax.make_mesh(devices, ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        found, our_pull = jax.vjp(call, x, weight)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        for a, b in zip(our_pull(expected), pull(expected), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_sums_of_bfloat16_can_be_kept_in_float32():
    x, weight = jnp.ones((2, 3, 300), jnp.bfloat16), jnp.ones((300, 7), jnp.bfloat16)
    assert (dense(x, weight, result=jnp.dtype("float32")) == 300).all()
    assert dense(x, weight).dtype == jnp.bfloat16
