"""Claims about FLOPs per token: what is traced is the published formula, and the published numbers."""

import pathlib

import pytest

from jaxlm.config import flags
from jaxlm.models import cost
from jaxlm.models.build import build
from jaxlm.models.gpt2 import Gpt2
from jaxlm.models.mixtral import Mixtral

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
DECODERS = sorted(
    path.stem
    for kind in ("gpt2", "llama", "smollm2", "mistral", "mixtral", "qwen")
    for path in CONFIGS.glob(f"{kind}*.py")
)


def shape(c) -> tuple[int, int]:
    """Parameters in matrix products (no embeddings, norms, biases; the scores of tokens count), and N x H x layers."""
    if isinstance(c, Gpt2):
        return c.layers * (
            4 * c.hidden**2 + 2 * c.hidden * c.mlp
        ) + c.vocab_size * c.hidden, c.layers * c.hidden
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    mlp = 3 * c.hidden * c.mlp
    if isinstance(c, Mixtral):  # and the router
        mlp = c.experts_per_token * mlp + c.hidden * c.experts
    layer = c.hidden * (2 * queries + 2 * keys) + mlp
    return c.layers * layer + c.vocab_size * c.hidden, c.layers * queries


@pytest.mark.parametrize("recipe", DECODERS)
def test_training_flops_per_token_are_the_formula_of_the_palm_paper(recipe):
    """6 x matmul parameters + 12 x layers x heads x head width x length (2204.02311, appendix B)."""
    run = flags.load(CONFIGS / f"{recipe}.py")
    length = run.stages[0].length
    matmuls, width = shape(run.model)
    assert cost.flops_per_token(run.model, length) == 6 * matmuls + 12 * width * length


def test_llama_7b_has_the_number_of_its_published_sizes():
    """6 x (6,738,415,616 parameters - embeddings - norms) + 12 x 32 layers x 4,096 wide x 2,048 tokens."""
    model = flags.load(CONFIGS / "llama_7b.py").model
    embeddings, norms = 32_000 * 4_096, 65 * 4_096
    expected = 6 * (6_738_415_616 - embeddings - norms) + 12 * 32 * 4_096 * 2_048
    assert cost.flops_per_token(model, 2_048) == expected == 42_863_689_728


def test_gpt2_small_has_the_number_that_nanogpt_publishes():
    """karpathy/nanoGPT, transformer_sizing.ipynb: 874,944,921,600 for a sequence of 1,024, forward and backward."""
    model = flags.load(CONFIGS / "gpt2_small.py").model
    assert cost.flops_per_token(model, 1_024) * 1_024 == 874_944_921_600


def test_smollm2_1_7b_cost_what_its_paper_says():
    """2502.02737: 11e12 tokens, on the order of 1e23 FLOPs."""
    run = flags.load(CONFIGS / "smollm2_1_7b.py")
    total = cost.flops_per_token(run.model, 2_048) * run.steps * run.batch_size * run.stages[0].length
    assert run.steps * run.batch_size * 2_048 == pytest.approx(11e12, rel=1e-4)
    assert 1e23 < total < 1.5e23


def test_a_token_of_mixtral_meets_the_published_12_9_billion_of_46_7():
    """2401.04088, section 2 and mistral.ai/news/mixtral-of-experts: 46.7B in all, 12.9B for a token."""
    model = flags.load(CONFIGS / "mixtral_8x7b.py").model
    total, matmuls = cost.count_real_parameters(build(model)), shape(model)[0]
    embeddings, norms = model.vocab_size * model.hidden, (2 * model.layers + 1) * model.hidden
    assert round(total / 1e9, 1) == 46.7
    assert matmuls + embeddings + norms == 12_879_925_248
