"""Claims about dropout: the rate, the scale, the key."""

import math
import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxlm.models.dropout import dropout, keep_mask, threefry


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_share_that_stays_is_the_rate_and_the_scale_makes_up_for_it(rate, implementation):
    keep, factor = keep_mask(jax.random.key(0, impl=implementation), rate, (301, 1001))
    share = float(np.asarray(keep).mean())
    assert abs(share - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / keep.size)
    assert factor == pytest.approx(1 / (1 - rate), rel=1e-4)
    # Both halves of a drawn word are used: they must not be copies.
    left, right = np.asarray(keep)[:, :500], np.asarray(keep)[:, 501:]
    assert abs((left == right).mean() - (rate**2 + (1 - rate) ** 2)) < 0.01


def test_entries_are_zero_or_scaled_and_the_dtype_stays():
    x = jnp.ones((7, 33), jnp.bfloat16)
    y = dropout(x, 0.25, jax.random.key(1))
    assert y.dtype == x.dtype and y.shape == x.shape
    assert set(np.unique(np.asarray(y, np.float32))) == {0.0, np.float32(jnp.bfloat16(4 / 3))}


def test_no_key_or_no_rate_is_the_identity():
    x = jnp.ones((3, 5))
    assert dropout(x, 0.5, None) is x and dropout(x, 0.0, jax.random.key(0)) is x


def test_another_key_is_another_mask():
    masks = [np.asarray(keep_mask(k, 0.5, (9, 31))[0]) for k in jax.random.split(jax.random.key(0), 2)]
    assert not np.array_equal(*masks)


def test_threefry_written_out_is_that_of_jax():
    key = np.array([0x9E3779B9, 77], np.uint32)
    x, y = np.arange(64, dtype=np.uint32) * 40503, np.arange(64, dtype=np.uint32) + 2**31
    want = jax.extend.random.threefry_2x32(jnp.asarray(key), jnp.concatenate([x, y]))
    assert np.array_equal(jnp.concatenate(threefry(key[0], key[1], x, y)), want)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_the_draws_are_those_of_jax_so_that_runs_of_before_go_on_with_theirs(implementation):
    key = jax.random.key(5, impl=implementation)
    bits = np.asarray(jax.random.bits(key, (3, 4, 6), jnp.uint32))
    want = np.concatenate([bits & 0xFFFF, bits >> 16], axis=-1)[..., :11] >= round(0.1 * 2**16)
    assert np.array_equal(keep_mask(key, 0.1, (3, 4, 11))[0], want)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_devices_draw_for_their_own_rows_alone(implementation):
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    key, rows = jax.random.key(0, impl=implementation), NamedSharding(mesh, PartitionSpec("data"))
    with jax.set_mesh(mesh):
        drop = jax.jit(lambda x: dropout(x, 0.25, key), in_shardings=rows, out_shardings=rows)
        program = drop.lower(jax.ShapeDtypeStruct((16, 60, 34), jnp.float32)).compile()
        y = np.asarray(program(jax.device_put(np.ones((16, 60, 34), np.float32), rows)))
    drawn = [
        math.prod(map(int, sizes.split(","))) for sizes in re.findall(r"u32\[([\d,]+)\]", program.as_text())
    ]
    assert max(drawn) == 16 // 4 * 60 * 17
    assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / y.size)
    assert len({row.tobytes() for row in y}) == 16
