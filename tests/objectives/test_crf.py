"""Claims about chained tags: log Z is a sum over all paths, the gradient is that of differences, the best path is found."""

import itertools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.infer import tag
from jaxlm.objectives import crf

RNG = np.random.default_rng(0)
K, SEGMENTS = 5, np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 0, 0]])
ASKED = np.array([[0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0]], bool)  # of the third text no token
TAGS = np.array([[0, 1, 2, 0, 0, 0, 3, 0, 4, 0, 0, 0]])
TEXTS = ((1, 2, 4), (6, 8))
CHAIN = {"between": RNG.normal(size=(K, K)), "first": RNG.normal(size=K), "last": RNG.normal(size=K)}
LOGITS = RNG.normal(size=(1, 12, K))


def can(path, scheme):
    """BIO: I of a label follows B or I of it."""
    if scheme == "words":
        return True
    return all(k % 2 or not k or before in (k - 1, k) for before, k in itertools.pairwise((0, *path)))


def score(path, places, logits, chain):
    """Of a whole sequence, in float64."""
    between = sum(chain["between"][a, b] for a, b in itertools.pairwise(path))
    words = sum(logits[0, t, k] for t, k in zip(places, path, strict=True))
    return chain["first"][path[0]] + between + words + chain["last"][path[-1]]


def brute_force(logits, chain, scheme):
    total = 0.0
    for places in TEXTS:
        paths = [p for p in itertools.product(range(K), repeat=len(places)) if can(p, scheme)]
        scores = np.array([score(path, places, logits, chain) for path in paths])
        total += np.log(np.exp(scores).sum()) - score(TAGS[0, list(places)], places, logits, chain)
    return total


def ours(logits, chain, scheme):
    chain, legal = jax.tree.map(jnp.float32, chain), crf.allowed(K, scheme)
    return crf.chain_loss(jnp.float32(logits), TAGS, ASKED, SEGMENTS, chain, legal)


@pytest.mark.parametrize("scheme", ["bio", "words"])
def test_the_loss_is_that_of_all_paths_of_the_words_of_each_text(scheme):
    nats, words = ours(LOGITS, CHAIN, scheme)
    np.testing.assert_allclose(nats, brute_force(LOGITS, CHAIN, scheme), rtol=1e-6)
    assert words == ASKED.sum()


def test_the_gradient_is_that_of_differences():
    """Of every number, by central differences of the sum over all paths."""
    grads = jax.jit(jax.grad(lambda logits, chain: ours(logits, chain, "bio")[0], argnums=(0, 1)))(
        LOGITS, CHAIN
    )
    flat, _ = jax.flatten_util.ravel_pytree((LOGITS, CHAIN))
    found, _ = jax.flatten_util.ravel_pytree(grads)
    step, flat = 1e-5, np.asarray(flat, np.float64)

    def at(i, by):
        moved = flat.copy()
        moved[i] += by
        logits, chain = moved[: LOGITS.size].reshape(LOGITS.shape), moved[LOGITS.size :]
        names, sizes = ("between", "first", "last"), (K * K, K, K)
        parts = np.split(chain, np.cumsum(sizes)[:-1])
        return brute_force(
            logits, {"between": parts[0].reshape(K, K), **dict(zip(names[1:], parts[1:], strict=True))}, "bio"
        )

    for i in range(len(flat)):
        expected = (at(i, step) - at(i, -step)) / (2 * step)
        assert abs(found[i] - expected) < 1e-4, i


@pytest.mark.parametrize("scheme", ["bio", "words"])
def test_the_best_path_is_the_best_of_all_that_can_be(scheme):
    legal = crf.allowed(K, scheme)
    for _ in range(20):
        logits = RNG.normal(size=(1, 4, K))
        paths = [p for p in itertools.product(range(K), repeat=4) if can(p, scheme)]
        best = max(paths, key=lambda path: score(path, range(4), logits, CHAIN))
        together = {name: legal[name] + CHAIN[name] for name in legal}
        assert tag.likeliest(logits[0], together) == list(best)
