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


def test_the_gradient_of_a_wide_result_is_rounded_and_its_products_are_narrow():
    rng = np.random.default_rng(0)
    x_BD, w_DV = (jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in ((64, 48), (48, 96)))
    g_BV = jnp.asarray(rng.normal(size=(64, 96)), jnp.float32)
    wide = lambda x, w: (dense(x, w, result=jnp.dtype("float32")) * g_BV).sum()
    program = jax.make_jaxpr(jax.grad(wide, (0, 1)))(x_BD, w_DV)
    products = [one.split(" = ")[0] for one in str(program).splitlines() if "dot_general" in one]
    assert [one.split(":")[1] for one in products if "bf16" not in one] == ["f32[64,96]"], (
        "the forward one alone"
    )
    assert any("bf16[96,48]" in one or "bf16[48,96]" in one for one in products)
    of_x, of_w = jax.grad(wide, (0, 1))(x_BD, w_DV)
    exact = [np.asarray(a, np.float64) for a in (x_BD, w_DV, g_BV)]
    for got, right in ((of_x, exact[2] @ exact[1].T), (of_w, exact[0].T @ exact[2])):
        assert got.dtype == jnp.bfloat16
        assert np.abs(np.asarray(got, np.float64) - right).max() < 2**-7 * np.abs(right).max()
