"""Claims about products of rows by group: numpy's numbers and gradients, the work of the rows that are there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.models import grouped, kernels

TOLERANCE = 1e-5
CASES = {
    "odd sizes, rows left over": ([3, 0, 17, 9, 2], 37, 12, 20),
    "many rows of one group": ([0, 200, 0], 256, 16, 8),
    "no rows at all": ([0, 0, 0, 0], 64, 8, 7),
    "one group": ([5], 6, 8, 9),
    "fewer rows than a block": ([1, 0, 0, 0, 2, 0, 0, 2], 5, 8, 16),
    "several blocks a group": ([130, 7, 247], 384, 5, 6),
}


def drawn(sizes, rows, width, out):
    rng = np.random.default_rng(0)
    x, w, g = (rng.normal(size=s) for s in ((rows, width), (len(sizes), width, out), (rows, out)))
    return x, w, g, np.repeat(np.arange(len(sizes)), sizes)


@pytest.mark.parametrize("name", CASES)
def test_products_and_gradients_are_those_of_numpy(name):
    sizes, rows, *widths = CASES[name]
    x, w, g, group = drawn(sizes, rows, *widths)
    real = len(group)

    @jax.jit
    def run(x, w):
        y, pull = jax.vjp(lambda x, w: grouped.grouped(x, w, jnp.array(sizes, jnp.int32))[:real], x, w)
        return y, *pull(jnp.asarray(g[:real], jnp.float32))

    y, dx, dw = run(x.astype("f"), w.astype("f"))
    np.testing.assert_allclose(y, np.einsum("ri,rio->ro", x[:real], w[group]), atol=TOLERANCE)
    np.testing.assert_allclose(dx[:real], np.einsum("ro,rio->ri", g[:real], w[group]), atol=TOLERANCE)
    np.testing.assert_allclose(dw, of_groups(x, g, group, len(sizes)), atol=TOLERANCE)


def of_groups(x, g, group, groups):
    return np.stack([x[: len(group)][group == e].T @ g[: len(group)][group == e] for e in range(groups)])


@pytest.mark.parametrize("name", ["many rows of one group", "several blocks a group"])
def test_the_kernel_of_tpus_gives_the_gradient_of_the_matrices(name):
    sizes, rows, *widths = CASES[name]
    x, _, g, group = drawn(sizes, rows, *widths)
    arrays = (jnp.asarray(x, jnp.float32), jnp.asarray(g, jnp.float32), jnp.array(sizes, jnp.int32))
    found = grouped.matrices_by_kernel(*arrays, interpret=True)
    np.testing.assert_allclose(found, of_groups(x, g, group, len(sizes)), atol=3 * TOLERANCE)


def test_the_work_is_that_of_the_rows_however_they_are_spread():
    rng, rows = np.random.default_rng(1), 4096
    for groups, share in ((1, 1.0), (8, 1.0), (8, 0.25), (2, 0.1)):
        for odds in (np.ones(groups), np.eye(groups)[0], rng.dirichlet(0.3 * np.ones(groups))):
            sizes = rng.multinomial(int(share * rows), odds / odds.sum())
            number, _, size = grouped.blocks(rows, jnp.asarray(sizes))
            assert number * size <= sizes.sum() + groups * (size - 1)
            assert size * 8 * groups <= rows or size == 8  # a small part of what a group has on average


def test_nothing_of_rows_times_groups_times_width_is_formed():
    groups, rows, width, out = 16, 1024, 64, 96
    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((rows, width), (groups, width, out)))
    sizes = jax.ShapeDtypeStruct((groups,), jnp.int32)
    loss = lambda x, w, sizes: jnp.square(grouped.grouped(x, w, sizes)).sum()
    memory = jax.jit(jax.grad(loss, (0, 1))).lower(x, w, sizes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * (
        4 * rows * out + 2 * groups * width * out
    )  # dense: 16 x rows x out


def test_counted_it_is_the_product_that_costs_a_matrix_a_row():
    x, w, sizes = jnp.ones((6, 4)), jnp.ones((3, 4, 5)), jnp.array([2, 0, 4])
    with kernels.whole_scores():
        text = str(jax.make_jaxpr(grouped.grouped)(x, w, sizes))
    assert "ragged_dot" in text and "while" not in text
