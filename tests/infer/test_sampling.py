"""Claims about choosing tokens: every filter is its definition, and draws follow the filtered softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.infer import sampling
from jaxlm.infer.sampling import Sampling

B, V = 7, 53


def logits(scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(5).normal(0, scale, (B, V)).astype(np.float32)


def softmax(row: np.ndarray) -> np.ndarray:
    share = np.exp(row.astype(np.float64) - row.max())
    return share / share.sum()


def kept(filtered) -> list[set[int]]:
    return [set(np.flatnonzero(np.isfinite(row)).tolist()) for row in np.asarray(filtered)]


@pytest.mark.parametrize("k", [1, 5, V, V + 9])
def test_top_k_keeps_the_k_largest(k):
    expected = [set(np.argsort(-row)[:k].tolist()) for row in logits()]
    assert kept(sampling.keep_top_k(jnp.asarray(logits()), k)) == expected


@pytest.mark.parametrize("p", [1e-6, 0.3, 0.9, 0.999])
def test_top_p_keeps_the_fewest_tokens_that_reach_the_share(p):
    expected = []
    for row in logits():
        share, chosen, total = softmax(row), set(), 0.0
        for id in np.argsort(-row):
            chosen.add(int(id))
            total += share[id]
            if total >= p:
                break
        expected.append(chosen)
    assert kept(sampling.keep_top_p(jnp.asarray(logits()), p)) == expected


@pytest.mark.parametrize("p", [0.01, 0.2, 1.0])
def test_min_p_is_a_share_of_the_largest_probability(p):
    expected = [{i for i, s in enumerate(softmax(row)) if s >= p * softmax(row).max()} for row in logits()]
    assert kept(sampling.keep_min_p(jnp.asarray(logits()), p)) == expected


def test_equal_logits_are_kept_or_left_out_together():
    row = jnp.array([[2.0, 1.0, 2.0, 1.0, -5.0]])
    assert kept(sampling.keep_top_k(row, 1)) == [{0, 2}]
    assert kept(sampling.keep_top_p(row, 0.3)) == [{0, 2}]
    assert kept(sampling.keep_top_p(row, 0.8)) == [{0, 1, 2, 3}]


def test_a_repetition_penalty_makes_seen_tokens_less_likely_whatever_their_sign():
    row, seen = jnp.array([[2.0, -2.0, 3.0, -3.0]]), jnp.array([[True, True, False, False]])
    np.testing.assert_allclose(sampling.penalise_repetition(row, seen, 2.0), [[1.0, -4.0, 3.0, -3.0]])


def test_filters_that_are_off_change_nothing():
    x = jnp.asarray(logits())
    np.testing.assert_array_equal(sampling.filtered(x, Sampling(temperature=1.0)), x)


def test_greedy_takes_the_largest_logit_and_the_penalty_counts():
    x, keys = jnp.asarray(logits()), jax.random.split(jax.random.key(0), B)
    np.testing.assert_array_equal(sampling.choose(x, None, keys, Sampling()), logits().argmax(1))
    seen = jnp.arange(V)[None] == logits().argmax(1)[:, None]
    penalised = sampling.choose(x, seen, keys, Sampling(repetition_penalty=50.0))
    assert (np.asarray(penalised) != logits().argmax(1)).all()


@pytest.mark.parametrize(
    "how",
    [Sampling(temperature=1.0), Sampling(temperature=0.6, top_k=9), Sampling(temperature=1.7, top_p=0.8)],
    ids=str,
)
def test_draws_follow_the_filtered_softmax(how):
    """Chi-square with a fixed seed; forbidden tokens never come."""
    draws = 20_000
    row = jnp.asarray(logits(1.0)[:1])
    expected = softmax(np.asarray(sampling.filtered(row, how))[0])
    keys = jax.random.split(jax.random.key(11), draws)
    tokens = jax.jit(jax.vmap(lambda key: sampling.choose(row, None, key[None], how)[0]))(keys)
    counts = np.bincount(np.asarray(tokens), minlength=V)
    assert not counts[expected == 0].any()
    likely = expected > 0
    statistic = ((counts - draws * expected)[likely] ** 2 / (draws * expected[likely])).sum()
    degrees = likely.sum() - 1
    # Wilson and Hilferty's normal approximation of the 99.9 % point.
    assert statistic < degrees * (1 - 2 / (9 * degrees) + 3.09 * (2 / (9 * degrees)) ** 0.5) ** 3


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -0.1), ("temperature", float("nan")), ("top_k", -1), ("top_p", 0.0), ("min_p", 1.5)],
)
def test_settings_that_cannot_work_are_refused_by_name(field, value):
    with pytest.raises(UserError, match=f"--{field.replace('_', '-')}="):
        Sampling(**{field: value}).validate()
