"""State in the host's memory: the same bits as on the device, there between steps, and one parameter at a time."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from jaxlm.batch import Batch
from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.errors import UserError
from jaxlm.optim.optimizers import Muon
from jaxlm.optim.schedules import WarmupLinear
from jaxlm.partition import hosted
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.hosted import MEMORY, Turns
from jaxlm.partition.mesh import Mesh
from jaxlm.planning import memory
from jaxlm.run.program import Program
from tests.views import programs

# Two chains, one for matrices and one, AdamW, for the rest, whose operations stand apart.
RATE = WarmupLinear(peak=3e-3, warmup="10%", end=0.0)
MUON = Muon(
    schedule=RATE, rest_schedule=RATE, weight_decay=0.1, clip_norm=1.0, b1=0.9, b2=0.95, epsilon=1e-8,
    momentum=0.95, iterations=2, update_rms=0.2,
)  # fmt: skip


@functools.cache
def on(memory: str) -> Program:
    """The tiny run with averages and micro-batches, on 4 devices, its moments split (ZeRO-1)."""
    mesh = Mesh(data=2, fsdp=2, fsdp_splits="optimizer", optimizer_memory=memory)
    run = programs.run("bert", mesh=mesh, optimizer=MUON, accumulate=2, ema_decay=0.9)
    return Program.of(run, meshes.make(mesh, jax.devices()[:4]))


def poisoned(batch: Batch) -> Batch:
    targets = dataclasses.replace(batch.targets, weights_BM=batch.targets.weights_BM * np.float32("nan"))
    return dataclasses.replace(batch, targets=targets)


@functools.cache
def step(memory: str):
    return on(memory).train_step()


def three_steps(memory: str, state):
    """(the state after three steps, of which the second is not finite; their losses)."""
    program, losses = on(memory), []
    with jax.set_mesh(program.mesh):
        for number in range(3):
            batch = programs.batch("bert", number)
            batch = {"": poisoned(batch) if number == 1 else batch}
            before = state
            batch = jax.device_put(batch, partition.batch_sharding(program.mesh))
            state, measures = step(memory)(state, {}, batch)
            losses.append(float(measures["loss"][0]))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before)), "not donated"
    assert step(memory)._cache_size() == 1, "compiled again: what comes back lies elsewhere than what went in"
    return state, losses


@functools.cache
def trained(memory: str):
    program = on(memory)
    with jax.set_mesh(program.mesh):
        state = program.start(program.parameters())[0]
    return three_steps(memory, state)


def same(one, other):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def kinds(tree) -> set[str]:
    return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree)}


def test_moments_in_the_hosts_memory_have_the_same_bits_and_are_there_between_steps():
    (here, losses), (there, others) = trained("device"), trained("host")
    same(here, there)
    assert losses == others and int(there.skipped) == 1
    assert kinds(here) == {"device"} == kinds(there.params) and kinds(there.ema) == {MEMORY}
    moments = [leaf for leaf in jax.tree.leaves(there.opt_state) if leaf.size > 3]
    others = [
        leaf for leaf in jax.tree.leaves(there.opt_state) if leaf.size <= 3
    ]  # counters, Muon's coefficients
    assert kinds(moments) == {MEMORY} and kinds(others) == {"device"}


def test_a_checkpoint_is_restored_to_either_memory(tmp_path):
    state, written = trained("host")[0], Checkpoints(tmp_path, Keep())
    written.save(3, state, {}, final=True)
    places = ("device", "host")
    restored = {place: written.restore(3, on(place).state)[0] for place in places}
    for place, found in restored.items():
        same(found, state)
        assert [x.sharding for x in jax.tree.leaves(found)] == [
            x.sharding for x in jax.tree.leaves(on(place).state)
        ]
    here, there = (three_steps(place, restored[place]) for place in places)
    same(here[0], there[0])
    assert here[1] == there[1]


def test_what_is_evaluated_is_on_the_devices():
    state = trained("host")[0]
    weights = on("host").evaluated(state)
    assert kinds(weights) == {"device"} and kinds(state.ema) == {MEMORY}
    same(weights, state.ema)


def test_bytes_are_counted_where_they_are():
    here, there = on("device"), on("host")
    moved = memory.held(here.state) - memory.held(there.state)
    assert (
        hosted.size(there.state) == moved > memory.held(there.state.params) and hosted.size(here.state) == 0
    )


def test_a_parameter_is_brought_when_those_before_it_are_back():
    """In the traced program, so for every order that a compiler may choose."""
    mesh = meshes.make(Mesh())
    where = partition.replicated(mesh)
    shape = hosted.on_host(jax.ShapeDtypeStruct((8,), jnp.float32, sharding=where))
    names = ("a", "b", "c")

    def update(state, gradient):  # by kind, not by parameter: all first moments, then all second ones
        first = {n: 0.9 * state["first"][n] + gradient[n] for n in names}
        second = {n: 0.9 * state["second"][n] + gradient[n] ** 2 for n in names}
        return {"first": first, "second": second}, sum(jnp.sum(g) for g in gradient.values())

    state = {kind: dict.fromkeys(names, shape) for kind in ("first", "second")}
    turns = Turns(state, partition.owners(state, dict.fromkeys(names, ("embed",))))
    assert turns.room == 2 * 8 * 4
    gradient = dict.fromkeys(names, jax.ShapeDtypeStruct((8,), jnp.float32))
    jaxpr = jax.make_jaxpr(turns(update))(state, gradient).jaxpr
    known = {
        v: {i} for i, v in enumerate(jaxpr.invars)
    }  # value -> the arguments that are read before it is there
    moves = []
    for one in jaxpr.eqns:
        read = set().union(*(known.get(v, set()) for v in one.invars if not isinstance(v, core.Literal)))
        known |= dict.fromkeys(one.outvars, read)
        moves += [read] if one.primitive.name == "device_put" else []
    first, second, third = ({i, 3 + i} for i in range(3))  # moments of a, b, c; 6, 7, 8 are gradients
    assert len(moves) == 12 and all({6, 7, 8} <= read for read in moves), (
        "brought before the gradient is there"
    )
    assert not any(second & read and not first <= read for read in moves)
    assert not any(third & read and not first | second <= read for read in moves)


def test_a_platform_without_it_is_refused_with_the_fix():
    memories = [SimpleNamespace(kind="device")]
    device = SimpleNamespace(platform="abacus", device_kind="Abacus 1", addressable_memories=lambda: memories)
    with pytest.raises(UserError, match="abacus.*only device.*--config.mesh.optimizer_memory=device"):
        hosted.check(device, "config.mesh")
