"""Sums over chunks of slots: each chunk's products are made once, and none whose gradient nobody reads."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.objectives import chunked

B, T, D, V = 2, 24, 16, 384


def loss(head_DV, x_BTD, ids_BT, chunk):
    def sums(x_BCD, ids_BC):
        logits_BCV = x_BCD @ head_DV
        picked_BC = jnp.take_along_axis(logits_BCV, ids_BC[..., None], axis=-1)[..., 0]
        nats_BC = jax.nn.logsumexp(logits_BCV, axis=-1) - picked_BC
        return {"term": nats_BC.sum(), "places": jnp.ones(ids_BC.shape).sum()}

    return chunked.summed(sums, chunk, x_BTD, ids_BT)


def arrays():
    rng = np.random.default_rng(0)
    head_DV, x_BTD = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((D, V), (B, T, D)))
    return head_DV, x_BTD, jnp.asarray(rng.integers(0, V, (B, T)))


@pytest.mark.parametrize("wanted,products", [((0, 1), 3), (0, 2), (1, 2)], ids=["both", "head", "features"])
def test_a_chunk_has_one_product_forward_and_one_for_every_gradient_that_is_read(wanted, products):
    term = lambda *a: loss(*a, chunk=8)["term"]
    text = jax.jit(jax.grad(term, wanted)).lower(*arrays()).compile().as_text()
    assert len(set(re.findall(r"%(dot[.\d]*) = ", text))) == products


@pytest.mark.parametrize("chunk", [1, 7, 8, 23])
def test_value_and_gradients_are_those_of_all_at_once(chunk):
    weighted = lambda head_DV, x_BTD, ids_BT, chunk: 3.0 * loss(head_DV, x_BTD, ids_BT, chunk)["term"] ** 2
    run = jax.jit(jax.value_and_grad(weighted, (0, 1)), static_argnames="chunk")
    got, wanted = (run(*arrays(), chunk=n) for n in (chunk, 0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-2), got, wanted)
    assert loss(*arrays(), chunk)["places"] == B * T


def test_what_the_sums_do_not_read_gets_no_gradient_and_needs_none():
    head_DV, x_BTD, ids_BT = arrays()
    apart = lambda pair: loss(pair[0], x_BTD, ids_BT, 8)["term"]
    of_head, of_other = jax.grad(apart)((head_DV, x_BTD))
    assert float(jnp.abs(of_head).max()) > 0 and not np.any(of_other)
