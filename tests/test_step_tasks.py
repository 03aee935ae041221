"""The train step on several tasks, and on a loss that couples rows: any mesh equals one device, micro-batches the whole."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxlm.batch import Batch, Batches
from jaxlm.evaluate.held_out import HeldOut, names
from jaxlm.models import cost
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.objectives import multi_task
from jaxlm.objectives.contrastive import DropoutContrastive, PairContrastive
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.objectives.sentence_order import SentenceOrder
from jaxlm.objectives.sentence_pairs import PairTargets
from jaxlm.objectives.targets import ItemTargets, TokenTargets
from jaxlm.optim.horizon import Horizon
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh
from jaxlm.run.step import make_eval_step, make_train_step, new_state

V, T, M, C = 211, 24, 7, 4
TOLERANCE = 4e-6  # float32 sums in another order, after AdamW steps of rate 1e-3


def bert(dropout: float) -> Bert:
    return Bert(
        vocab_size=V,
        hidden=32,
        layers=1,
        heads=4,
        mlp=56,
        max_positions=40,
        types=2,
        dropout=dropout,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        activation="gelu",
        init_scale=0.1,
        position_init="normal",
    )


MASKED = MaskedLM(rate=0.15, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())
ORDER = SentenceOrder(masked_lm=MASKED, short_share=0.1, swapped_share=0.5, duplicates=1, pairs_per_row=C)
TWICE = DropoutContrastive(
    temperature=0.05, pooling="cls_mlp", max_tokens=9, items_per_row=C, text="sentences"
)
PAIRS = PairContrastive(temperature=0.05, pooling="mean", max_tokens=9, items_per_row=2, negatives="in_batch")


def tasks(**objectives) -> MultiTask:
    rows = {"words": 8, "order": 16, "texts": 8}
    weights = {"words": 1.0, "order": 0.5, "texts": 0.3}
    return MultiTask(
        tasks=tuple(
            Task(name=name, objective=objective, weight=weights[name], rows=rows[name])
            for name, objective in objectives.items()
        )
    )


def batch(objective, rows: int, seed: int) -> Batch:
    """Rows with very different numbers of targets and items, one of them empty; targets as the objective takes them."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, C // 2 + 1, rows) * 2
    items[rows // 2] = 0
    segments = np.array([[min(t * C // T + 1, C) if t * C // T < n else 0 for t in range(T)] for n in items])
    numbers = rng.integers(0, M + 1, rows)
    ids = lambda top, *shape: rng.integers(0, top, shape).astype(np.int32)
    tokens, positions, types = ids(V, rows, T), ids(40, rows, T), ids(2, rows, T)
    words = TokenTargets(
        places_BM=ids(T, rows, M),
        ids_BM=ids(V, rows, M),
        weights_BM=(np.arange(M) < numbers[:, None]).astype(np.float32),
    )
    texts = ItemTargets(
        first_BC=np.broadcast_to(np.arange(C, dtype=np.int32) * (T // C), (rows, C)),
        labels_BC=ids(2, rows, C),
        weights_BC=(np.arange(C) < items[:, None]).astype(np.float32),
    )
    pairs = PairTargets(tokens=words, items=texts)
    asked = {MaskedLM: words, SentenceOrder: pairs}.get(type(objective), texts)
    return Batch(
        tokens_BT=tokens,
        segments_BT=segments.astype(np.int32),
        positions_BT=positions,
        types_BT=types,
        targets=asked,
    )


def batches(tasks: MultiTask) -> Batches:
    return {task.name: batch(task.objective, task.rows, seed) for seed, task in enumerate(tasks.tasks)}


@functools.cache
def start():
    """The parameters before the first step."""
    return jax.jit(build(bert(0.0), ALL.heads(None)).init)(jax.random.key(0))


def trained(tasks: MultiTask, *, mesh: Mesh | None = None, accumulate: int = 1, dropout: float = 0.0):
    """Parameters after two steps on a mesh, and the measures of the last."""
    grid = meshes.make(mesh or Mesh(), jax.devices() if mesh else jax.devices()[:1])
    model = build(bert(dropout), ALL.heads(None))
    schedule = WarmupLinear(peak=1e-3, warmup="1 steps", end=0.0)
    adamw = AdamW(schedule=schedule, weight_decay=0.01, clip_norm=1.0, b1=0.9, b2=0.98, epsilon=1e-4)
    optimizer = adamw.make(Horizon(((10, 16 * T),)), model.axes)
    begun = new_state(start(), optimizer, ema=False)
    where = partition.shardings(begun, model.axes, grid)
    step = make_train_step(
        lambda params, frozen: model.bind(params), tasks, optimizer, seed=5, accumulate=accumulate
    )
    with jax.set_mesh(grid):
        state = jax.device_put(jax.tree.map(np.copy, begun), where)  # which is donated
        jitted = jax.jit(step, donate_argnums=0, out_shardings=(where, None))
        data = jax.device_put(batches(tasks), partition.batch_sharding(grid))
        for _ in range(2):
            state, measures = jitted(state, {}, data)
    assert int(state.skipped) == 0
    found = {k: float(s) / float(w) for k, (s, w) in jax.device_get(measures).items() if float(w)}
    return jax.device_get(state.params), found


def assert_same(one, other) -> None:
    for (path, x), y in zip(
        jax.tree_util.tree_flatten_with_path(one[0])[0], jax.tree.leaves(other[0]), strict=True
    ):
        np.testing.assert_allclose(x, y, atol=TOLERANCE, rtol=0, err_msg=jax.tree_util.keystr(path))
    assert one[1].keys() == other[1].keys()
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], other[1][name], rtol=1e-4, atol=1e-5, err_msg=name)


ALL = tasks(words=MASKED, order=ORDER, texts=TWICE)


@pytest.fixture(scope="module")
def reference():
    """All tasks on one device, with dropout."""
    return trained(ALL, dropout=0.1)


def test_several_tasks_on_eight_devices_equal_one(reference):
    assert_same(trained(ALL, mesh=Mesh(data=1, fsdp=4, tensor=2), dropout=0.1), reference)


def test_negatives_come_from_the_whole_mesh():
    one = multi_task.of(PAIRS, 16)
    assert_same(trained(one, mesh=Mesh(data=8)), trained(one))


def test_micro_batches_of_several_tasks_equal_the_large_batch():
    both = tasks(words=MASKED, order=ORDER)
    assert_same(trained(both, accumulate=4), trained(both))


def test_useful_tokens_add_up_and_the_loss_is_the_weighted_sum_of_all_terms(reference):
    measures = reference[1]
    used = sum(int((b.segments_BT > 0).sum()) for b in batches(ALL).values())
    assert measures["useful_tokens"] == used
    parts = {"words/mlm": 1.0, "order/mlm": 0.5, "order/sop": 0.5, "texts/contrastive": 0.3}
    total = sum(weight * measures[f"{name}_loss"] for name, weight in parts.items())
    np.testing.assert_allclose(measures["loss"], total, rtol=1e-5)


def test_evaluation_goes_task_by_task_to_the_same_numbers():
    model = build(bert(0.1), ALL.heads(None))
    params, data = start(), batches(ALL)
    evaluate = jax.jit(make_eval_step(lambda params, frozen: model.bind(params), ALL))
    step = lambda params, batch: evaluate(params, {}, batch)
    together = HeldOut(step, lambda: [("", data)])(params)
    apart = HeldOut(step, lambda: [("", {name: one}) for name, one in data.items()])(params)
    assert together.keys() == apart.keys() == set(names(jax.eval_shape(step, params, data)))
    for name in together:
        np.testing.assert_allclose(together[name], apart[name], rtol=1e-5, err_msg=name)


def test_flops_of_tasks_add_up_and_two_views_cost_two_passes():
    def flops(objective, data):
        total = lambda module, b: sum(
            s for s, _ in objective.loss(module, b, jax.random.key(0)).terms.values()
        )
        return cost.training_flops(bert(0.1), total, data, objective.heads(bert(0.1)))

    data = batches(ALL)
    alone = [flops(task.objective, data[task.name]) for task in ALL.tasks]
    assert flops(ALL, data) == sum(alone)
    once = dataclasses.replace(PAIRS, pooling="cls_mlp")
    assert 1.8 < flops(TWICE, data["texts"]) / flops(once, data["texts"]) < 2.1
