"""The loss of token prediction: values in float64, chunked as plain, smoothing as in transformers, memory as expected."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.objectives import scores
from jaxlm.objectives.targets import TokenTargets

B, T, D, V, PADDED = 4, 23, 7, 37, 41


def case(in_place, seed=0):
    rng = np.random.default_rng(seed)
    slots = T if in_place else 11
    targets = TokenTargets(
        places_BM=None if in_place else rng.integers(0, T, (B, slots)).astype(np.int32),
        ids_BM=rng.integers(0, V, (B, slots)).astype(np.int32),
        weights_BM=(rng.random((B, slots)) < 0.7).astype(np.float32),
    )
    return targets, rng.normal(size=(B, T, D)), rng.normal(size=(D, V))


def model_of(head_DV):
    padding = jnp.full((D, PADDED - V), 0.0)

    def predict_tokens(x_BMD):
        logits = x_BMD @ jnp.concatenate([head_DV, padding], axis=1)
        return jnp.where(jnp.arange(PADDED) < V, logits, -1e9)

    return types.SimpleNamespace(predict_tokens=predict_tokens)


def scored(model, x_BTD, targets, **settings):
    return scores.of_tokens(scores.token_logits(model, x_BTD, targets), targets.ids_BM, "lm", **settings)


def reference(targets, x_BTD, head_DV, z_loss, smoothing):
    """Everything again, slot by slot in float64."""
    nats = term = z_total = right = 0.0
    for b in range(B):
        for m in range(targets.ids_BM.shape[1]):
            t = m if targets.places_BM is None else targets.places_BM[b, m]
            logits = x_BTD[b, t] @ head_DV
            log_z = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
            w = float(targets.weights_BM[b, m])
            plain = log_z - logits[targets.ids_BM[b, m]]
            even = log_z - logits.mean()
            nats, z_total = nats + w * plain, z_total + w * z_loss * log_z**2
            term += w * ((1 - smoothing) * plain + smoothing * even + z_loss * log_z**2)
            right += w * (logits.argmax() == targets.ids_BM[b, m])
    return term, nats, right, z_total


def test_of_equal_logits_the_first_is_the_answer_as_of_argmax():
    logits_BMV = np.array([[[0, 2, 2], [2, 2, 0], [1, 0, 1], [np.nan, 0, 0]]], np.float32).repeat(3, axis=0)
    targets = np.tile(np.arange(3)[:, None], 4).astype(np.int32)
    found = scores._sums(jnp.asarray(logits_BMV), targets, np.ones((3, 4), np.float32), 0.0, 0.0)
    expected = (logits_BMV.argmax(-1) == targets)[:, :3].sum()  # numpy takes NaN for the largest, we for none
    assert float(found["right"]) == expected == 3


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("chunk", [0, 1, 5, 11, 23, 64])
@pytest.mark.parametrize("z_loss,smoothing", [(0.0, 0.0), (1e-2, 0.1)])
def test_value_and_gradient_are_those_of_the_plain_loss(in_place, chunk, z_loss, smoothing):
    targets, x, head = case(in_place)

    def loss(x, head, chunk):
        settings = dict(chunk=chunk, z_loss=z_loss, label_smoothing=smoothing)
        made = scored(model_of(head), x, targets, **settings)
        return made.terms["lm"][0], made

    arguments = jnp.asarray(x, jnp.float32), jnp.asarray(head, jnp.float32)
    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    ((value, made), grads), (_, plain) = run(*arguments, chunk), run(*arguments, 0)
    term, nats, right, z_total = reference(targets, x, head, z_loss, smoothing)
    np.testing.assert_allclose(value, term, rtol=2e-6)
    np.testing.assert_allclose(made.measures["lm_loss"][0], nats, rtol=2e-6)
    assert float(made.measures["lm_accuracy"][0]) == right
    weight = targets.weights_BM.sum()
    assert all(float(pair[1]) == weight for pair in (*made.terms.values(), *made.measures.values()))
    assert ("lm_z" in made.measures) == bool(z_loss)
    if z_loss:
        np.testing.assert_allclose(made.measures["lm_z"][0], z_total, rtol=2e-6)
    for got, wanted in zip(grads, plain, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    step = 1e-5
    direction = np.random.default_rng(5).normal(size=head.shape)
    numeric = (
        reference(targets, x, head + step * direction, z_loss, smoothing)[0]
        - reference(targets, x, head - step * direction, z_loss, smoothing)[0]
    ) / (2 * step)
    np.testing.assert_allclose((np.asarray(grads[1], np.float64) * direction).sum(), numeric, rtol=1e-4)


def test_rows_spread_over_devices_give_the_same():
    targets, x, head = case(True)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = jax.device_put((targets, jnp.asarray(x, jnp.float32)), rows)

    def loss(pair, head):
        return scored(model_of(head), pair[1], pair[0], chunk=5).terms["lm"][0]

    head = jnp.asarray(head, jnp.float32)
    compiled = jax.jit(jax.value_and_grad(loss, 1)).lower(spread, head).compile()
    value, grad = compiled(spread, head)
    alone, grad_alone = jax.jit(jax.value_and_grad(loss, 1))((targets, jnp.asarray(x, jnp.float32)), head)
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    np.testing.assert_allclose(grad, grad_alone, rtol=1e-5, atol=1e-5)
    assert "all-gather" not in compiled.as_text(), "rows must stay where they are"


def test_memory_shrinks_with_the_chunk_as_stated():
    rows, positions, width, vocabulary, chunk = 4, 256, 16, 8192, 16
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(rows, positions, width)), jnp.float32)
    head = jnp.asarray(rng.normal(size=(width, vocabulary)), jnp.float32)
    ids = rng.integers(0, vocabulary, (rows, positions)).astype(np.int32)

    def temporary(chunk):
        def loss(x, head, ids):
            targets = TokenTargets(ids_BM=ids, weights_BM=np.ones(ids.shape, np.float32))
            model = types.SimpleNamespace(predict_tokens=lambda x_BMD: x_BMD @ head)
            return scored(model, x, targets, chunk=chunk).terms["lm"][0]

        step = jax.jit(jax.grad(loss, (0, 1)))
        return step.lower(x, head, ids).compile().memory_analysis().temp_size_in_bytes

    def logits(positions):
        return rows * positions * vocabulary * 4

    plain, chunked = temporary(0), temporary(chunk)
    assert plain > logits(positions)
    # What is left: two or three arrays of a chunk's logits, the head's gradient as it adds up, the features.
    assert chunked < 3 * logits(chunk) + 3 * head.nbytes + 4 * x.nbytes
    assert plain - chunked > 0.9 * logits(positions) - 3 * head.nbytes
