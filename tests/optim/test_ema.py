"""Claims: the average is the closed form in float64, starts at the weights, and owns its buffers."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.optim import ema

DECAY = 0.95


def test_average_is_its_closed_form():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(301, 5))
    average = ema.init({"w": jnp.asarray(weights[0], jnp.float32)})
    update = jax.jit(ema.update, static_argnums=3)
    expected = weights[0]
    for step in range(300):
        average = update(average, {"w": jnp.asarray(weights[step + 1], jnp.float32)}, step, DECAY)
        decay = min(DECAY, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights[step + 1]
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5, atol=1e-6)


def test_a_tail_is_the_mean_of_what_follows_its_first_update_and_before_it_the_weights():
    weights = np.random.default_rng(0).normal(size=(31, 5))
    average, update = (
        ema.init({"w": jnp.asarray(weights[0], jnp.float32)}),
        jax.jit(ema.tail, static_argnums=3),
    )
    for step in range(30):
        average = update(average, {"w": jnp.asarray(weights[step + 1], jnp.float32)}, step, 20)
        expected = weights[21 : step + 2].mean(0) if step >= 20 else weights[step + 1]
        np.testing.assert_allclose(average["w"], expected, rtol=1e-5, atol=1e-6)


def test_average_of_constant_weights_is_the_weights():
    params = {"w": jnp.asarray([1.5, -3.25])}
    average = ema.init(params)
    for step in range(5):
        average = ema.update(average, params, step, DECAY)
    np.testing.assert_array_equal(average["w"], params["w"])


def test_average_is_float32_and_no_alias():
    params = {"w": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(3)}
    average = ema.init(params)
    assert average["w"].dtype == average["b"].dtype == jnp.float32
    params["b"].delete()
    np.testing.assert_array_equal(average["b"], 1.0)
