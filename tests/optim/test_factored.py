"""Claims: Adafactor's second moment is algorithm 4 of the paper (float64, layer by layer), kept as rows and columns."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.optim import factored, matrices

L, D, N, H = 3, 6, 2, 5
AXES = {"w": ("layers", "embed", "heads", "head_dim"), "b": ("layers", "heads", "head_dim")}
RATE, EPSILON = 0.8, 1e-3  # a large epsilon, so that its place in the formula shows


def gradients(step):
    rng = np.random.default_rng(step)
    return {"w": rng.normal(size=(L, D, N, H)), "b": rng.normal(size=(L, N, H))}


def expected(steps):
    """Algorithm 4, for one matrix at a time."""
    out = {"w": np.zeros((L, D, N, H)), "b": np.zeros((L, N, H))}
    for layer in range(L):
        rows, cols, full = np.zeros(D), np.zeros(N * H), np.zeros((N, H))
        for t in range(1, steps + 1):
            decay = 1 - t**-RATE
            g = gradients(t)["w"][layer].reshape(D, N * H)
            rows = decay * rows + (1 - decay) * (g**2 + EPSILON).sum(1)
            cols = decay * cols + (1 - decay) * (g**2 + EPSILON).sum(0)
            out["w"][layer] = (g / np.sqrt(np.outer(rows, cols) / rows.sum())).reshape(D, N, H)
            g = gradients(t)["b"][layer]
            full = decay * full + (1 - decay) * (g**2 + EPSILON)
            out["b"][layer] = g / np.sqrt(full)
    return out


def test_factored_moment_is_algorithm_4():
    transform = factored.scale_by_factored_rms(RATE, EPSILON, 2, matrices.layouts(AXES))
    state = transform.init(gradients(0))
    for t in range(1, 5):
        updates, state = transform.update(jax.tree.map(jnp.float32, gradients(t)), state)
    for name, value in expected(4).items():
        np.testing.assert_allclose(updates[name], value, rtol=2e-5)


def test_moments_of_a_matrix_are_its_rows_and_columns():
    transform = factored.scale_by_factored_rms(RATE, EPSILON, D, matrices.layouts(AXES))
    state = jax.eval_shape(transform.init, gradients(0))
    assert state.rows["w"].shape == (L, D, 1, 1) and state.cols["w"].shape == (L, 1, N, H)
    assert state.rows["b"].shape == (L, N, H) and state.cols["b"].shape == (1, 1, 1)


def test_small_matrices_keep_the_full_moment():
    transform = factored.scale_by_factored_rms(RATE, EPSILON, D + 1, matrices.layouts(AXES))
    state = jax.eval_shape(transform.init, gradients(0))
    assert state.rows["w"].shape == (L, D, N, H) and state.cols["w"].shape == (1, 1, 1, 1)


def test_rms_clipping_and_relative_steps_look_at_every_layer():
    layouts = matrices.layouts({"w": ("layers", "embed", "mlp")})
    u = jnp.asarray([0.5, 4.0, 1.0])[:, None, None] * jnp.ones((3, 2, 5))
    clip = factored.clip_by_rms(2.0, layouts)
    np.testing.assert_allclose(clip.update({"w": u}, clip.init({"w": u}))[0]["w"][:, 0, 0], [0.5, 2.0, 1.0])
    relative = factored.scale_by_parameter_rms(1e-3, layouts)
    p = {"w": jnp.asarray([0.0, 3.0, 0.1])[:, None, None] * jnp.ones((3, 2, 5))}
    out = relative.update({"w": jnp.ones_like(u)}, relative.init(p), p)[0]["w"][:, 0, 0]
    np.testing.assert_allclose(out, [1e-3, 3.0, 0.1], rtol=1e-6)
