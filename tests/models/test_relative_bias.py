"""Claims about relative position buckets: the published ones, on the right side, the same wherever a row begins."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxlm.models.relative_bias import RelativeBias, bucket_of_distance


def exact_bucket(distance: int, buckets: int, max_distance: int) -> int:
    """Section 2.1 in whole numbers: the largest b with (distance/exact)^wide >= (max/exact)^(b - exact)."""
    exact, wide = buckets // 2, buckets - buckets // 2
    if distance < exact:
        return distance
    reached = [j for j in range(wide) if distance**wide * exact**j >= max_distance**j * exact**wide]
    return exact + max(reached)


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (16, 128), (6, 11), (7, 40)])
def test_buckets_are_those_of_whole_numbers(buckets, max_distance):
    found = bucket_of_distance(buckets, max_distance)
    assert found.tolist() == [exact_bucket(d, buckets, max_distance) for d in range(max_distance + 1)]


def bias(bidirectional: bool) -> RelativeBias:
    made = RelativeBias(
        nnx.Rngs(0), heads=3, buckets=8, max_distance=20, bidirectional=bidirectional, scale=1.0
    )
    made.table.set_value(jnp.arange(24.0).reshape(8, 3))  # the bucket is a third of what is read
    return made


def test_an_encoder_tells_the_sides_apart_and_a_decoder_has_all_buckets_behind():
    queries, keys = jnp.array([10]), jnp.array([0, 8, 9, 10, 11, 12, 40])
    both = bias(True)(queries, keys)[0, 0] / 3
    assert both.tolist() == [2 + 1, 2, 1, 0, 4 + 1, 4 + 2, 4 + 3]
    behind = bias(False)(queries, keys)[0, 0] / 3
    assert behind.tolist() == [exact_bucket(10, 8, 20), 2, 1, 0, 0, 0, 0]


def test_places_do_not_matter_only_their_differences():
    made, queries, keys = bias(True), jnp.arange(5), jnp.arange(9)
    found = made(queries, keys)
    assert found.shape == (3, 5, 9)
    np.testing.assert_array_equal(found, made(queries + 31, keys + 31))
