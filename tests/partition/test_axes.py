"""Every axis of the mesh: the program of a run on 8 devices trains as on one, each device computes its share of it, and
holds what it should."""

import dataclasses
import functools
import math
import pathlib
import re

import jax
import numpy as np
import pytest

from jaxlm.batch import Row, Vocabulary, stacked
from jaxlm.config import flags
from jaxlm.data.rows.documents import FOLLOWING
from jaxlm.optim.optimizers import AdamW
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh
from jaxlm.planning.hlo import Module
from jaxlm.run.program import Program

RECIPES = pathlib.Path(__file__).parents[1] / "recipes"
KINDS = {
    "BERT": "objectives/masked_lm",
    "Llama": "objectives/causal_lm",
    "T5": "objectives/span_corruption",
    "Mixtral": "tiny_mixtral",
}
ROWS, VOCAB = 16, 2048
SENTINELS = tuple(range(10, 60))
VOCABULARY = Vocabulary(
    size=VOCAB, pad=0, unk=1, cls=2, sep=3, mask=4, bos=5, eos=6, sentinels=SENTINELS,
    special_V=np.arange(VOCAB) < 60, continues_V=np.zeros(VOCAB, bool),
)  # fmt: skip
ONE, ONE_SCAN = "one device", "one device, its layers a loop"
# Relative; absolute after two steps of AdamW at 1e-3, which divides a gradient that nearly cancels by its own size: of the
# 18,000 weights of T5's `wq` one moves by 3e-6, where a float32 number is rounded once more or once less on the way.
LOSS, WEIGHTS = 1e-5, 4e-6
BY_PARTS = 5e-6  # the same, where the gradient is a sum over micro-batches
# In T5 of 4 + 4 layers, which go round: one of 36,864 weights of `wq` is off by 5.7e-6, without going round by 4.1e-6
ROUND_WEIGHTS = 7e-6
MESHES = {
    "data": Mesh(data=8),
    "fsdp": Mesh(data=1, fsdp=8),
    "fsdp, weights whole": Mesh(data=1, fsdp=8, fsdp_splits="optimizer"),
    "tensor": Mesh(data=4, tensor=2),
    "fsdp x tensor": Mesh(data=1, fsdp=4, tensor=2),
    "data x fsdp x tensor": Mesh(data=2, fsdp=2, tensor=2),
    "data x fsdp x tensor, weights whole": Mesh(data=2, fsdp=2, tensor=2, fsdp_splits="optimizer"),
    "expert": Mesh(data=1, expert=8),
    "data x expert": Mesh(data=4, expert=2),
    "fsdp x expert": Mesh(data=1, fsdp=2, expert=4),
    "expert x tensor": Mesh(data=1, expert=4, tensor=2),
    "stage": Mesh(data=4, stage=2),
    "fsdp x stage": Mesh(data=1, fsdp=4, stage=2),
    "stage x tensor": Mesh(data=2, stage=2, tensor=2),
    "stage x context": Mesh(data=2, stage=2, context=2),
    "context": Mesh(data=1, context=8),
    "data x context": Mesh(data=2, context=4),
    "fsdp x context": Mesh(data=1, fsdp=2, context=4),
    "context x tensor": Mesh(data=2, context=2, tensor=2),
    "stage x expert": Mesh(data=2, stage=2, expert=2),
    "context x expert": Mesh(data=2, context=2, expert=2),
}
# (mesh, how often parts go round the stages, layers)
ROUND = {
    "stage, round twice": (Mesh(data=4, stage=2), 2, 4),
    "fsdp x stage, round twice": (Mesh(data=1, fsdp=4, stage=2), 2, 4),
    "stage x tensor, round twice": (Mesh(data=2, stage=2, tensor=2), 2, 4),
    "4 stages, round twice": (Mesh(data=2, stage=4), 2, 8),
    "2 stages, round 3 times": (Mesh(data=4, stage=2), 3, 6),
}
# In the gate
SAMPLE = (
    ("BERT", "stage x tensor, round twice"),
    ("BERT", "fsdp, weights whole"),
    ("BERT", "data x fsdp x tensor"),
    ("Llama", "stage x tensor"),
    ("T5", "context x tensor"),
    ("Mixtral", "stage x expert"),
)


def row(length, rng):
    """A few documents, and padding behind."""
    segments = np.sort(rng.integers(1, 4, length))
    segments[int(0.9 * length) :] = 0
    starts = np.flatnonzero(np.diff(segments, prepend=0) * (segments > 0))
    positions = np.arange(length) - np.maximum.accumulate(
        np.where(np.isin(np.arange(length), starts), np.arange(length), 0)
    )
    tokens = np.where(segments > 0, rng.integers(60, VOCAB, length), 0)
    first = np.zeros(length, np.int32)
    first[: len(starts)] = starts
    as_ints = {"tokens_T": tokens, "segments_T": segments, "positions_T": positions * (segments > 0)}
    return Row(
        **{name: array.astype(np.int32) for name, array in as_ints.items()},
        texts_T=np.zeros(length, np.int32),
        first_C=first,
        columns={FOLLOWING: np.full(length, VOCABULARY.eos, np.int32)},
    )


@functools.cache
def trained(kind, name, layers=0):
    """(losses of two steps, the weights after them, the compiled step, the program) on a mesh; ONE: on one device."""
    run = flags.load(RECIPES / f"{KINDS[kind]}.py")
    loop = "scan" if name == ONE_SCAN else run.model.layer_loop
    deep = {
        name: layers for name in ("layers", "encoder_layers", "decoder_layers") if hasattr(run.model, name)
    }
    own, repeats, _ = ROUND.get(name, (MESHES.get(name), 1, 0))
    run.model = dataclasses.replace(
        run.model,
        vocab_size=VOCAB,
        heads=4,
        layer_loop=loop,
        stage_repeats=repeats,
        **(deep if layers else {}),
    )
    schedule = dataclasses.replace(run.optimizer.schedule, peak=1e-3, warmup="1 steps")
    run.optimizer = AdamW(schedule=schedule, weight_decay=0.01, clip_norm=1.0, b1=0.9, b2=0.98, epsilon=1e-6)
    run.batch_size, run.mesh, run.ema_decay = ROWS, own or Mesh(), 0.0
    mesh = meshes.make(run.mesh, jax.devices() if own else jax.devices()[:1])
    # In chunks, as of large vocabularies: the sums of every device's own slots.
    rng, objective = np.random.default_rng(0), dataclasses.replace(run.objective, chunk=12)
    run.objective = objective
    length = objective.plan_length(run.stages[0].length)
    rows = [objective.prepare(row(length, rng), VOCABULARY, rng, train=True) for _ in range(ROWS)]
    with jax.set_mesh(mesh):
        program = Program.of(run, mesh)
        batch = jax.device_put({"": stacked(rows)}, partition.batch_sharding(mesh))
        state, frozen = program.start(program.parameters())
        step = program.train_step().lower(state, frozen, batch).compile()
        losses = []
        for _ in range(2):
            state, measures = step(state, frozen, batch)
            losses.append(float(measures["loss"][0]))
        jax.tree.map(lambda x, like: x.sharding == like.sharding or pytest.fail(str(x)), state, program.state)
        return losses, jax.device_get(state.params), step, program


def test_a_sample_of_the_axes_trains_as_one_device():
    for kind, name in SAMPLE:
        check(kind, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MESHES, *ROUND])
@pytest.mark.parametrize("kind", KINDS)
def test_every_axis_trains_as_one_device(kind, name):
    check(kind, name)


def check(kind, name):
    layers = ROUND[name][-1] if name in ROUND else 0
    losses, weights, step, program = trained(kind, name, layers)
    expected, whole, alone, _ = trained(kind, ONE, layers)
    if program.mesh.shape["stage"] > 1:  # where the last layer, too, computes all places
        alone = trained(kind, ONE_SCAN, layers)[2]
    np.testing.assert_allclose(losses, expected, rtol=LOSS)
    paths = jax.tree_util.tree_flatten_with_path(weights)[0]
    for (path, ours), theirs in zip(paths, jax.tree.leaves(whole), strict=True):
        by_parts = ROUND_WEIGHTS if name in ROUND else BY_PARTS
        near = WEIGHTS if program.mesh.shape["stage"] == 1 else by_parts
        np.testing.assert_allclose(ours, theirs, atol=near, err_msg=jax.tree_util.keystr(path))
    mesh, splits = program.mesh.shape, program.run.mesh.fsdp_splits
    busy = 1 - program.schedule.bubble
    share = busy * flops(step) / (flops(alone) / 8)
    assert 0.7 < share < 1.1, f"a device computes {share:.2f} of its share"
    of = lambda tree: held(tree) / sum(math.prod(leaf.shape) * 4 for leaf in jax.tree.leaves(tree))
    split = 1 / (mesh["fsdp"] * mesh["tensor"])
    assert of(program.state.opt_state) < 1.1 * split
    assert of(program.params) < 1.1 * (split if splits == "weights" else 1 / mesh["tensor"])
    axes = jax.tree.leaves(program.model.axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    for name, logical in {"stage": "layers", "expert": "experts"}.items():
        own = [x for x, its in zip(jax.tree.leaves(program.params), axes, strict=True) if logical in its]
        assert not own or of(own) < 1.1 * split / mesh[name] or splits == "optimizer"


def flops(compiled):
    """Of the matrix products of a device, loops multiplied; the loops of grouped products count once."""
    module, total = Module.parse(compiled.as_text()), 0
    for executed in module.executed():
        if executed.what.opcode == "dot":
            scope = module.computations[executed.computation]
            left = dimensions(scope[executed.what.operands[0]].type)
            contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", executed.what.rest)[1]
            inner = math.prod(left[int(number)] for number in contracted.split(",") if number)
            total += executed.times * 2 * inner * math.prod(dimensions(executed.what.type))
    return total


def dimensions(kind):
    """Of an array's type, `f32[8,128]{1,0}`."""
    return [int(size) for size in re.search(r"\[([\d,]*)\]", kind)[1].split(",") if size]


def held(tree):
    """Bytes on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
