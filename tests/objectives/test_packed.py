"""Text-to-text objectives through real models: a packed row is scored as its segments alone, and everything has a gradient."""

import jax
import numpy as np
import pytest

from jaxlm.batch import stacked
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.llama import Llama
from jaxlm.models.rope import Rope, Unscaled
from jaxlm.models.t5 import T5
from jaxlm.objectives import ul2
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.objectives.denoising import Denoising
from jaxlm.objectives.infill import FillInTheMiddle
from jaxlm.objectives.prefix_lm import PrefixLM
from jaxlm.objectives.span_corruption import SpanCorruption
from tests.objectives import passages as made

DECODER = Llama(
    vocab_size=made.V, hidden=24, layers=1, heads=3, kv_heads=1, head_dim=8, mlp=29, activation="silu", max_positions=128,
    rope=Rope(base=10000.0, scaling=Unscaled()), norm_epsilon=1e-5, embeddings="tied", biases="none", qk_norm="none",
    windows=(0,), init_scale=0.3,
)  # fmt: skip
ENCODER_DECODER = T5(
    vocab_size=made.V, hidden=24, encoder_layers=1, decoder_layers=1, heads=3, head_dim=8, mlp=29, activation="gelu_tanh",
    gate="gated", head="untied", buckets=8, max_distance=19, dropout=0.0, norm_epsilon=1e-6, init_factor=1.0,
)  # fmt: skip
LOSS = {"z_loss": 1e-3, "label_smoothing": 0.1, "chunk": 7}
CASES = {
    "causal": (DECODER, CausalLM(**LOSS)),
    "prefix": (DECODER, PrefixLM(**LOSS, shortest=0.0, longest=1.0)),
    "infill": (DECODER, FillInTheMiddle(**LOSS, rate=0.7, psm_share=0.5)),
    "ul2 decoder": (
        DECODER,
        ul2.MixtureOfDenoisers(**LOSS, denoisers=ul2.published(), form="decoder", decoder_start="pad"),
    ),
    "spans": (ENCODER_DECODER, SpanCorruption(**LOSS, density=0.15, mean_span=3.0, decoder_start="pad")),
    "ul2": (
        ENCODER_DECODER,
        ul2.MixtureOfDenoisers(
            **LOSS, denoisers=ul2.published(), form="encoder_decoder", decoder_start="pad"
        ),
    ),
    "denoising": (
        ENCODER_DECODER,
        Denoising(
            **LOSS,
            permute=1.0,
            rotate=0.1,
            infill=0.3,
            mean_span=3.0,
            mask=0.1,
            delete=0.1,
            decoder_start="eos",
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_models_of_another_kind_are_refused(name):
    config, objective = CASES[name]
    objective.check_model(config, "config.model")
    other = ENCODER_DECODER if config is DECODER else DECODER
    for wrong in (other, RobertaLike()):
        with pytest.raises(
            UserError, match=rf"config.model={type(wrong).__name__}: {type(objective).__name__} here trains"
        ):
            objective.check_model(wrong, "config.model")


class RobertaLike:
    kind = "encoder"


def unpacked(row):
    """Every segment of a row in a row of its own."""

    def alone(path, values, segment):
        name = jax.tree_util.keystr(path)
        kept = values[(row.source_segments_BS if "source" in name else row.segments_BT) == segment]
        found = np.zeros_like(values)
        found[: len(kept)] = 1 if "segments" in name else kept
        return found

    segments = range(1, int(row.segments_BT.max()) + 1)
    return [jax.tree.map_with_path(lambda path, values, s=s: alone(path, values, s), row) for s in segments]


@pytest.mark.parametrize("name", CASES)
def test_a_packed_row_is_scored_as_its_segments_alone(name):
    config, objective = CASES[name]
    model = build(config, dtype="float32")
    params = jax.jit(model.init)(jax.random.key(0))
    texts = made.texts_of((31, 19, 25))
    row = made.prepare(objective, texts, 97, seed=3)
    rows = unpacked(row)
    assert len(rows) == 3

    @jax.jit
    def score(params, batch):
        term = lambda params: objective.loss(model.bind(params), batch, None).terms["lm"][0]
        return jax.value_and_grad(term)(params)

    # Two empty rows beside the packed one: of equal shapes, both batches compile once.
    empty = jax.tree.map(np.zeros_like, row)
    packed, grads = score(params, stacked([row, empty, empty]))
    alone, alone_grads = score(params, stacked(rows))
    np.testing.assert_allclose(packed, alone, rtol=2e-5)
    for (path, a), b in zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(alone_grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * max(np.abs(b).max(), 1e-6), err_msg=str(path))
        assert np.abs(b).max() > 0, path
    weights = objective.weights(stacked([row]))
    assert float(weights["lm"]) == (row.targets.weights_BM > 0).sum()
