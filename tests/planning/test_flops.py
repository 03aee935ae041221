"""FLOPs of a planned step against the formula, and what a plan says of it."""

import pytest

from jaxlm.config import flags
from jaxlm.planning import described, quick, targets


@pytest.mark.parametrize("recipe", ["smollm2_135m", "llama3_2_1b"])
def test_flops_of_a_step_are_the_formula_of_the_palm_paper(recipe):
    """6 x parameters in matrix products + 12 x layers x width x length, a token (2204.02311, appendix B); within 2 %, as
    the vocabulary is padded."""
    run = flags.parse(["plan", recipe]).run
    target, model = targets.parse("v5e-16"), run.model
    stage = described.stages(run)[0][0]
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    layer = model.hidden * (2 * queries + 2 * keys) + 3 * model.hidden * model.mlp
    matmuls = model.layers * layer + model.vocab_size * model.hidden
    tokens = run.batch_size * stage.length
    formula = tokens * (6 * matmuls + 12 * model.layers * queries * stage.length)
    found = quick.of(run, target, stage)
    assert found.model_flops * target.size == pytest.approx(formula, rel=0.02)
    again = {"none": 1.0, "dots": 1.0, "block": 4 / 3}[model.remat]
    assert found.flops == pytest.approx(again * found.model_flops)
