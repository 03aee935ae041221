"""Claim: every filter gives what transformers' LogitsProcessor of that name gives."""

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import torch
import transformers

from jaxlm.infer import sampling
from jaxlm.infer.sampling import Sampling

B, V = 9, 61
LOGITS = np.random.default_rng(3).normal(0, 2.5, (B, V)).astype(np.float32)
IDS = np.random.default_rng(4).integers(0, V, (B, 17))


WARPERS = {
    "top_k": transformers.TopKLogitsWarper,
    "top_p": transformers.TopPLogitsWarper,
    "min_p": transformers.MinPLogitsWarper,
}
EDGES = [("top_k", 1), ("top_k", 1000), ("top_p", 1e-8), ("top_p", 0.999999), ("min_p", 1.0)]


@pytest.mark.parametrize("scale", [1, 32])
@pytest.mark.parametrize(("name", "value"), EDGES)
def test_a_filter_at_its_edge_keeps_the_tokens_that_transformers_keeps(name, value, scale):
    logits = LOGITS * scale
    expected = np.isfinite(WARPERS[name](value)(torch.tensor(IDS), torch.tensor(logits)).numpy())
    ours = sampling.filtered(jnp.asarray(logits), Sampling(temperature=1.0, **{name: value}))
    assert expected.any(axis=1).all()
    np.testing.assert_array_equal(np.isfinite(ours), expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: sampling.temper(x, 0.7), lambda: transformers.TemperatureLogitsWarper(0.7)),
        (lambda x: sampling.keep_top_k(x, 6), lambda: transformers.TopKLogitsWarper(6)),
        (lambda x: sampling.keep_top_p(x, 0.85), lambda: transformers.TopPLogitsWarper(0.85)),
        (lambda x: sampling.keep_min_p(x, 0.07), lambda: transformers.MinPLogitsWarper(0.07)),
    ],
    ids=["temperature", "top-k", "top-p", "min-p"],
)
def test_a_filter_equals_transformers(ours, theirs):
    expected = theirs()(torch.tensor(IDS), torch.tensor(LOGITS)).numpy()
    np.testing.assert_allclose(ours(jnp.asarray(LOGITS)), expected, rtol=1e-6)


def test_the_repetition_penalty_equals_transformers():
    processor = transformers.RepetitionPenaltyLogitsProcessor(1.3)
    expected = processor(torch.tensor(IDS), torch.tensor(LOGITS)).numpy()
    seen = np.zeros((B, V), bool)
    np.put_along_axis(seen, IDS, True, 1)
    np.testing.assert_allclose(
        sampling.penalise_repetition(jnp.asarray(LOGITS), jnp.asarray(seen), 1.3), expected, rtol=1e-6
    )


def test_all_together_equal_transformers_in_its_order():
    processors = [
        transformers.TemperatureLogitsWarper(0.8),
        transformers.TopKLogitsWarper(20),
        transformers.TopPLogitsWarper(0.9),
        transformers.MinPLogitsWarper(0.03),
    ]
    expected = torch.tensor(LOGITS)
    for processor in processors:
        expected = processor(torch.tensor(IDS), expected)
    ours = sampling.filtered(jnp.asarray(LOGITS), Sampling(temperature=0.8, top_k=20, top_p=0.9, min_p=0.03))
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6)
