"""Parity with Hugging Face: label smoothing is that of transformers' LabelSmoother."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.objectives import scores
from jaxlm.objectives.targets import TokenTargets

torch = pytest.importorskip("torch", reason="the reference is in torch")
helpers = pytest.importorskip("transformers.trainer_pt_utils", reason="the reference is in transformers")


@pytest.mark.parametrize("smoothing", [0.1, 0.37])
def test_label_smoothing_equals_transformers(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 13, 29)).astype(np.float32)
    targets = rng.integers(0, 29, (3, 13))
    weights = rng.random((3, 13)) < 0.6
    labels = torch.tensor(np.where(weights, targets, -100))
    smoother = helpers.LabelSmoother(epsilon=smoothing)
    wanted = smoother({"logits": torch.tensor(logits)}, labels)
    padded = np.concatenate([logits, np.full((3, 13, 3), -1e9, np.float32)], axis=-1)
    asked = TokenTargets(ids_BM=targets, weights_BM=weights.astype(np.float32))
    model = types.SimpleNamespace(predict_tokens=lambda x: x)
    said = scores.token_logits(model, jnp.asarray(padded), asked)
    total, weight = scores.of_tokens(said, asked.ids_BM, "lm", label_smoothing=smoothing).terms["lm"]
    np.testing.assert_allclose(float(total / weight), float(wanted), rtol=1e-6)
