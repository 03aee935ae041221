"""The train step: micro-batches equal the large batch, 8 devices equal 1, bad steps change nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.objectives import multi_task
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.next_sentence import NextSentence
from jaxlm.objectives.sentence_pairs import PairTargets
from jaxlm.objectives.targets import ItemTargets, TokenTargets
from jaxlm.optim.horizon import Horizon
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh
from jaxlm.run.step import TrainState, make_eval_step, make_train_step, new_state

TOLERANCE = 2e-6  # float32 sums in another order, after one AdamW step of rate 1e-3
V, B, T, M, C = 211, 16, 24, 7, 3


def bert(dropout: float = 0.0) -> Bert:
    return Bert(
        vocab_size=V,
        hidden=32,
        layers=2,
        heads=4,
        mlp=56,
        max_positions=40,
        types=2,
        dropout=dropout,
        attention_dropout=dropout,
        norm_epsilon=1e-12,
        activation="gelu",
        init_scale=0.1,
        position_init="normal",
    )


OBJECTIVE = NextSentence(
    masked_lm=MaskedLM(rate=0.15, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens()),
    short_share=0.1,
    random_share=0.5,
    duplicates=1,
    pairs_per_row=C,
)
TASKS = multi_task.of(OBJECTIVE, B)


def batch(seed: int = 0) -> Batch:
    """Rows with very different numbers of targets and items, one of them empty."""
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.integers(0, C + 1, (B, T)), axis=1)[:, ::-1]
    segments = np.where(segments > 0, C + 1 - segments, 0).astype(np.int32)
    segments[3] = 0
    targets = rng.integers(0, M + 1, B)
    targets[3] = 0
    weights = (np.arange(M) < targets[:, None]).astype(np.float32)
    items = rng.integers(0, C + 1, B)
    return Batch(
        tokens_BT=rng.integers(0, V, (B, T)).astype(np.int32),
        segments_BT=segments,
        positions_BT=rng.integers(0, 40, (B, T)).astype(np.int32),
        types_BT=rng.integers(0, 2, (B, T)).astype(np.int32),
        targets=PairTargets(
            tokens=TokenTargets(
                places_BM=rng.integers(0, T, (B, M)).astype(np.int32),
                ids_BM=rng.integers(0, V, (B, M)).astype(np.int32),
                weights_BM=weights,
            ),
            items=ItemTargets(
                first_BC=rng.integers(0, T, (B, C)).astype(np.int32),
                labels_BC=rng.integers(0, 2, (B, C)).astype(np.int32),
                weights_BC=(np.arange(C) < items[:, None]).astype(np.float32),
            ),
        ),
    )


def weighed(tokens: float, items: float) -> Batch:
    """The batch with the weights of its targets times these."""
    made = batch()
    asked: PairTargets = made.targets
    words = dataclasses.replace(asked.tokens, weights_BM=asked.tokens.weights_BM * np.float32(tokens))
    pairs = dataclasses.replace(asked.items, weights_BC=asked.items.weights_BC * np.float32(items))
    return dataclasses.replace(made, targets=PairTargets(tokens=words, items=pairs))


def optimizer(axes):
    schedule = WarmupLinear(peak=1e-3, warmup="1 steps", end=0.0)
    adamw = AdamW(schedule=schedule, weight_decay=0.01, clip_norm=1.0, b1=0.9, b2=0.98, epsilon=1e-6)
    return adamw.make(Horizon(((10, B * T),)), axes)


def create(key: jax.Array) -> TrainState:
    model = build(bert(), OBJECTIVE.heads(bert()))
    return new_state(model.init(key), optimizer(model.axes), ema=True)


@functools.cache
def start() -> TrainState:
    """The state before the first step, on the host."""
    return jax.device_get(jax.jit(create)(jax.random.key(0)))


def test_the_state_starts_alike_on_any_mesh():
    grid = meshes.make(Mesh(data=1, fsdp=4, tensor=2), jax.devices())
    axes = build(bert(), OBJECTIVE.heads(bert())).axes
    with jax.set_mesh(grid):
        where = partition.shardings(start(), axes, grid)
        there = jax.jit(create, out_shardings=where)(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, there, start())


def trained(
    *,
    mesh: Mesh | None = None,
    accumulate: int = 1,
    dropout: float = 0.0,
    steps: int = 2,
    b: Batch | None = None,
    **extra,
) -> tuple[TrainState, list[dict]]:
    """The state after a few steps on a mesh, and the measures of every step as floats."""
    devices = jax.devices() if mesh else jax.devices()[:1]
    grid = meshes.make(mesh or Mesh(), devices)
    model = build(bert(dropout), OBJECTIVE.heads(bert()))
    where = partition.shardings(start(), model.axes, grid)
    bind = lambda params, frozen: model.bind(params)
    step = make_train_step(
        bind, TASKS, optimizer(model.axes), seed=5, accumulate=accumulate, ema_decay=0.9, **extra
    )
    with jax.set_mesh(grid):
        state = jax.device_put(jax.tree.map(np.copy, start()), where)  # which is donated
        jitted = jax.jit(step, donate_argnums=0, out_shardings=(where, None))
        data = jax.device_put({"": b or batch()}, partition.batch_sharding(grid))
        measures = []
        for _ in range(steps):
            state, m = jitted(state, {}, data)
            measures.append({k: (float(s), float(w)) for k, (s, w) in jax.device_get(m).items()})
        assert jitted._cache_size() == min(steps, 1), (
            "the step compiled twice: its output is sharded otherwise than its input"
        )
        jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim) or pytest.fail(str(x)), state, where)
    return state, measures


def assert_close(a: TrainState, b: TrainState, tolerance: float = TOLERANCE) -> None:
    for (path, x), y in zip(
        jax.tree_util.tree_flatten_with_path(a.params)[0], jax.tree.leaves(b.params), strict=True
    ):
        np.testing.assert_allclose(x, y, atol=tolerance, rtol=0, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module")
def reference():
    return trained()


@pytest.mark.parametrize("accumulate", [2, 4, 16])
def test_micro_batches_equal_the_large_batch(reference, accumulate):
    state, measures = trained(accumulate=accumulate)
    assert_close(state, reference[0])
    for ours, theirs in zip(measures, reference[1], strict=True):
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, err_msg=name)


MESHES = [
    dict(data=8),
    dict(fsdp=8),
    dict(data=2, fsdp=2, tensor=2),
    dict(fsdp=4, tensor=2),
    dict(fsdp=2, tensor=4),
]


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_eight_devices_equal_one(reference, mesh):
    state, measures = trained(mesh=Mesh(**{"data": 1, **mesh}))
    assert_close(state, reference[0])
    np.testing.assert_allclose(measures[-1]["loss"], reference[1][-1]["loss"], rtol=1e-5)


def test_eight_devices_equal_one_and_repeat_with_dropout():
    one, again = trained(dropout=0.1)[0], trained(dropout=0.1)[0]
    assert all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(again), strict=True)
    )
    assert_close(trained(dropout=0.1, mesh=Mesh(data=1, fsdp=4, tensor=2))[0], one)


def test_micro_batches_on_a_mesh_equal_one_device(reference):
    state, _ = trained(mesh=Mesh(data=1, fsdp=4, tensor=2), accumulate=4)
    assert_close(state, reference[0])


def test_a_non_finite_step_changes_nothing_but_the_counters():
    bad = weighed(tokens=np.nan, items=1.0)
    before = start()
    after, measures = trained(steps=2, b=bad)
    assert int(after.step) == 2 and int(after.skipped) == 2 and int(after.skipped_in_a_row) == 2
    kept = dataclasses.replace(
        after, step=before.step, skipped=before.skipped, skipped_in_a_row=before.skipped_in_a_row
    )
    for x, y in zip(jax.tree.leaves(kept), jax.tree.leaves(before), strict=True):
        assert np.array_equal(x, y)
    assert measures[-1]["loss"] == (0.0, 0.0), "a skipped step must not enter the mean"
    assert measures[-1]["skipped_in_a_row"] == (2.0, 1.0)


def test_a_batch_without_targets_trains_on_nothing():
    empty = weighed(tokens=0.0, items=0.0)
    state, measures = trained(steps=1, b=empty)
    assert int(state.skipped) == 0 and measures[0]["loss"] == (0.0, 1.0)


def test_light_weights_train_like_heavy_ones_of_the_same_proportions(reference):
    asked: PairTargets = batch().targets
    b = weighed(0.25 / asked.tokens.weights_BM.sum(), 0.25 / asked.items.weights_BC.sum())
    state, measures = trained(b=b)
    np.testing.assert_allclose(measures[0]["loss"], reference[1][0]["loss"], rtol=1e-5)
    assert_close(state, reference[0])


def test_loss_is_the_sum_of_the_terms_means(reference):
    _, measures = reference
    first = measures[0]
    mean = lambda name: first[name][0] / first[name][1]
    np.testing.assert_allclose(mean("loss"), mean("mlm_loss") + mean("nsp_loss"), rtol=1e-6)


def test_evaluation_has_no_dropout_and_adds_over_batches():
    model = build(bert(dropout=0.5), OBJECTIVE.heads(bert()))
    params = start().params
    evaluate = jax.jit(make_eval_step(lambda params, frozen: model.bind(params), TASKS))
    step = lambda params, batch: evaluate(params, {}, batch)
    first, second = ({"": batch(seed)} for seed in (0, 1))
    a, b = step(params, first), step(params, first)
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), first, second)
    joined, parts = step(params, both), jax.tree.map(jnp.add, step(params, first), step(params, second))
    for name in joined:
        np.testing.assert_allclose(joined[name], parts[name], rtol=1e-5)
