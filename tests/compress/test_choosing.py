"""What goes and what is left, against float64 numpy that fits every choice anew."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.compress import choosing


@pytest.fixture(scope="module")
def seen():
    """(w_IO, sum of x x^T): inputs that depend on each other."""
    rng = np.random.default_rng(0)
    x_RI = rng.standard_normal((200, 12)) @ (rng.standard_normal((12, 24)) + np.eye(12, 24))
    x_RI += 0.3 * rng.standard_normal(x_RI.shape)
    return rng.standard_normal((24, 5)), x_RI.T @ x_RI


def refitted(w_IO, square_II, at):
    return np.linalg.solve(square_II[np.ix_(at, at)], square_II[at] @ w_IO)


def lost(w_IO, square_II, at):
    """||X W - X_at W'||^2 of the best W'."""
    error = w_IO.copy()
    error[at] -= refitted(w_IO, square_II, at)
    return np.trace(error.T @ square_II @ error)


@pytest.mark.parametrize(("groups", "keep"), [(24, 15), (8, 5), (4, 1)])
def test_at_each_step_the_group_goes_that_leaves_the_best_fit(seen, groups, keep):
    w_IO, square_II = seen
    size, left = 24 // groups, list(range(groups))
    places = lambda some: [g * size + i for g in some for i in range(size)]
    while len(left) > keep:
        costs = {g: lost(w_IO, square_II, places([k for k in left if k != g])) for g in left}
        left.remove(min(costs, key=costs.__getitem__))
    given = jnp.asarray(w_IO, jnp.float32), jnp.asarray(square_II, jnp.float32)
    found = choosing.by_activations(*given, groups, keep)
    assert found.tolist() == left
    at = choosing.within(found, size)
    assert at.tolist() == places(left)
    np.testing.assert_allclose(
        choosing.fitted(*given, at), refitted(w_IO, square_II, places(left)), atol=2e-3
    )


def test_all_inputs_leave_the_matrix_as_it_is(seen):
    given = jnp.asarray(seen[0], jnp.float32), choosing.damped(jnp.asarray(seen[1], jnp.float32), 0.01)
    assert choosing.by_activations(*given, 8, 8).tolist() == list(range(8))
    np.testing.assert_allclose(choosing.fitted(*given, jnp.arange(24)), seen[0], atol=1e-4)


def test_inputs_that_never_come_go_first(seen):
    dead = np.isin(np.arange(24), (3, 17))
    square = jnp.asarray(np.where(dead[:, None] | dead, 0, seen[1]), jnp.float32)
    w_IO = jnp.asarray(seen[0] * np.where(dead, 1e-3, 1)[:, None], jnp.float32)
    found = choosing.by_activations(w_IO, choosing.damped(square, 0.01), 24, 22)
    assert found.tolist() == np.flatnonzero(~dead).tolist()


def test_no_choice_by_chance_is_fitted_better(seen):
    given = jnp.asarray(seen[0], jnp.float32), jnp.asarray(seen[1], jnp.float32)
    found = lost(*seen, np.asarray(choosing.by_activations(*given, 24, 15)))
    rng = np.random.default_rng(1)
    drawn = [lost(*seen, np.sort(rng.permutation(24)[:15])) for _ in range(50)]
    assert found < min(drawn) and found < np.mean(drawn) / 2
