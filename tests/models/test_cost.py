"""Claims about the FLOP count: it equals the analytic one, whatever the loop, remat policy or kernel."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from jaxlm.batch import Batch
from jaxlm.models import cost
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.models.heads import Classify, Pooler, Tokens
from jaxlm.objectives.sentence_pairs import PairTargets
from jaxlm.objectives.targets import ItemTargets, TokenTargets

CONFIG = Bert(
    vocab_size=101,
    hidden=36,
    layers=5,
    heads=4,
    mlp=56,
    max_positions=17,
    types=2,
    dropout=0.1,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.02,
    position_init="normal",
)
HEADS = {"tokens": Tokens(), "pooler": Pooler(), "nsp": Classify(classes=2)}
B, T, M, C = 3, 13, 6, 2


def batch() -> Batch:
    row = jax.ShapeDtypeStruct((B, T), jnp.int32)
    fields = dict.fromkeys(("tokens_BT", "segments_BT", "positions_BT", "types_BT"), row)
    slots, items = jax.ShapeDtypeStruct((B, M), jnp.int32), jax.ShapeDtypeStruct((B, C), jnp.int32)
    targets = PairTargets(
        tokens=TokenTargets(ids_BM=slots, weights_BM=slots, places_BM=slots),
        items=ItemTargets(first_BC=items, labels_BC=items, weights_BC=items),
    )
    return Batch(**fields, targets=targets)


def loss(module, batch):
    x_BTD = module.encode(batch, jax.random.key(0)).x_BTD
    x_BMD = jnp.take_along_axis(x_BTD, batch.targets.tokens.places_BM[..., None], 1)
    x_BCD = jnp.take_along_axis(x_BTD, batch.targets.items.first_BC[..., None], 1)
    return module.predict_tokens(x_BMD).sum() + module.classify_pair(x_BCD, "nsp").sum()


def by_formula() -> int:
    """Products of one forward pass, from the paper's shapes; the head at M positions, over 128 table rows."""
    d, f = CONFIG.hidden, CONFIG.mlp
    layer = 4 * d * d + 2 * d * f + 2 * T * d  # projections, MLP, scores and their use at the full T x T
    tokens = M * (d * d + 128 * d)
    pairs = C * (d * d + 2 * d)
    return 2 * B * (CONFIG.layers * T * layer + tokens + pairs)


@pytest.mark.parametrize(
    "change",
    [{}, {"layer_loop": "scan"}, {"remat": "block"}, {"attention": "splash"}],
    ids=str,
)
def test_a_step_costs_three_times_the_formula_s_forward_pass(change):
    assert (
        cost.training_flops(dataclasses.replace(CONFIG, **change), loss, batch(), HEADS) == 3 * by_formula()
    )


def test_the_backward_pass_costs_twice_the_forward_pass():
    """Which is where the factor 3 comes from; only the embedding side of the first layer could be less."""
    model = build(CONFIG, HEADS)
    forward = cost.forward_flops(lambda p, b: loss(model.bind(p), b), model.shapes, batch())
    step = cost.forward_flops(jax.value_and_grad(lambda p, b: loss(model.bind(p), b)), model.shapes, batch())
    assert step == 3 * forward


def test_both_branches_of_a_condition_count_as_the_dearer_one():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    both = lambda p: jax.lax.cond(p, lambda: (a @ b).sum(), lambda: jnp.float32(0))
    assert cost.forward_flops(both, True) == 2 * 3 * 5 * 7


def test_a_grouped_product_costs_every_row_one_matrix_forward_and_backward():
    rows, width, result, groups = 32, 8, 16, 4
    x, w, sizes = jnp.ones((rows, width)), jnp.ones((groups, width, result)), jnp.full(groups, rows // groups)
    grouped = lambda x, w: jax.lax.ragged_dot(x, w, sizes).sum()
    assert cost.forward_flops(grouped, x, w) == 2 * rows * width * result
    # Gradients: to the rows, and to the matrices, where the rows of a group are what is contracted.
    assert cost.forward_flops(jax.value_and_grad(grouped, (0, 1)), x, w) == 3 * 2 * rows * width * result


def test_products_of_any_layout_cost_what_einsum_says():
    for spec, sizes in (
        ("bij,bjk->bik", (2, 3, 5, 7)),
        ("ij,kj->ik", (3, 5, 7)),
        ("ibj,jkb->bik", (2, 3, 5, 7)),
    ):
        size = dict(zip("".join(sorted(set(spec) & set("bijk"))), sizes, strict=True))
        shapes = [jnp.ones([size[c] for c in part]) for part in spec.split("->")[0].split(",")]
        count = cost.forward_flops(lambda a, b, spec=spec: jnp.einsum(spec, a, b), *shapes)
        assert count == 2 * math.prod(size.values()), spec


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jax.lax.conv(x[None, None], x[None, None], (1, 1), "SAME"),
        lambda x: jnp.fft.fft(x),
        lambda x: jnp.linalg.cholesky(x),
        lambda x: jax.scipy.linalg.solve_triangular(x, x),
    ],
)
def test_a_product_that_is_not_counted_raises_and_is_not_zero(function):
    with pytest.raises(ValueError, match=r"FLOPs of \w+ cannot be counted"):
        cost.forward_flops(function, jnp.eye(4))


def test_embeddings_can_be_left_out_of_the_count():
    model = build(CONFIG, HEADS)
    tables = (128 + CONFIG.max_positions + CONFIG.types) * CONFIG.hidden
    assert cost.count_parameters(model.shapes) - cost.count_parameters(model.shapes, model.axes) == tables
