import numpy as np
import pytest

from jaxlm.data import draws
from jaxlm.errors import UserError


def test_draws_follow_from_seed_purpose_and_index_and_from_each_of_them():
    keys = [
        (s, p, i)
        for s in (0, 1, 2**32 - 1)
        for p in ("a", "b", "row order")
        for i in (0, 1, 2**53, 2**53 + 1)
    ]
    drawn = {key: draws.generator(*key).integers(2**63) for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert all(draws.generator(*key).integers(2**63) == value for key, value in drawn.items())


def test_neighbouring_indices_are_independent():
    x = np.array([draws.generator(7, "a", i).random() for i in range(4001)])
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4 / np.sqrt(4000)
    assert abs(x.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 4001)


def test_derived_seeds_of_neighbours_are_not_neighbours():
    seeds = [draws.derived_seed(s, "row order") for s in range(100)]
    assert len(set(seeds)) == 100 and np.abs(np.diff(seeds)).min() > 1000


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_a_user_error(seed):
    with pytest.raises(UserError, match="allowed: 0 to 4294967295"):
        draws.generator(seed, "a")
