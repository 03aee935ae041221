"""Bytes from shapes: exact for what is held, near for what lives within a step."""

import dataclasses

import jax
import pytest

from jaxlm.config import flags
from jaxlm.partition.mesh import Mesh
from jaxlm.planning import described, memory, targets
from jaxlm.planning.targets import Device, Target
from jaxlm.run.program import Program
from jaxlm.runtime import device_memory

TINY = "tests/recipes/tiny.py"
NEAR = 0.75
CAUSAL = "tests/recipes/objectives/causal_lm.py"
MESHES = [Mesh(data=1, fsdp=8), Mesh(data=2, fsdp=2, tensor=2)]
MESHES.append(Mesh(data=2, fsdp=4, fsdp_splits="optimizer"))


def loaded(**changes):
    return dataclasses.replace(flags.load(TINY), **changes)


def on_this_machine(run):
    program = described.program(run, jax.devices())
    return program, described.batches(program, described.stages(run)[-1][0])


class OfCpus(Target):
    """A machine that is here, for the quick model."""

    def devices(self):
        return [Device(i, "cpu", "cpu", (i,), 0) for i in range(8)]


CPUS = OfCpus(targets.GENERATIONS["v5e"], 8, 1, (2, 4))


@pytest.mark.parametrize("mesh", MESHES, ids=lambda m: f"{m.data}x{m.fsdp}x{m.tensor}-{m.fsdp_splits}")
def test_what_is_held_is_what_arrays_take_and_what_the_program_is_given(mesh):
    run = loaded(mesh=mesh)
    program, batches = on_this_machine(run)
    found, _ = memory.of(program, batches, CPUS)
    state, _ = program.start(program.parameters())
    first = jax.devices()[0]
    taken = lambda tree: sum(
        shard.data.nbytes
        for x in jax.tree.leaves(tree)
        for shard in x.addressable_shards
        if shard.device == first
    )
    assert found.parameters == taken(state.params) and found.averages == taken(state.ema) > 0
    assert found.optimizer == taken((state.opt_state, state.step, state.skipped, state.skipped_in_a_row))
    with jax.set_mesh(program.mesh):
        compiled = program.train_step().lower(program.state, program.frozen, batches).compile()
    assert compiled.memory_analysis().argument_size_in_bytes == found.held


@pytest.mark.parametrize("name", ["v5e-8", "v4-16", "h100-8"])
def test_described_devices_hold_what_devices_that_are_here_hold(name):
    run = loaded(mesh=Mesh(data=2, fsdp=2, tensor=2), precision="float32")
    here, batches = on_this_machine(run)
    target = targets.parse(name)
    there = described.program(run, target.devices())
    assert memory.held(here.state) == memory.held(there.state)
    assert memory.held(batches) == memory.held(described.batches(there, described.stages(run)[-1][0]))


def test_rematerialisation_and_micro_batches_keep_less():
    run = loaded(batch_size=32, mesh=Mesh(data=2, fsdp=4))
    kept = {}
    for remat in ("none", "dots", "block"):
        one = dataclasses.replace(run, model=dataclasses.replace(run.model, remat=remat))
        kept[remat] = memory.of(*on_this_machine(one), CPUS)[0]
    assert kept["none"].activations > kept["dots"].activations > kept["block"].activations
    halves = memory.of(*on_this_machine(dataclasses.replace(run, accumulate=2)), CPUS)[0]
    assert halves.activations == pytest.approx(kept["none"].activations / 2, rel=0.1)
    assert halves.held == kept["none"].held and halves.gradients == 2 * kept["none"].gradients


PARTED = {
    "context": (Mesh(data=4, context=2), 1, 32),
    "4 stages, a row each": (Mesh(data=2, stage=4), 1, 8),
    "2 stages, round twice": (Mesh(data=4, stage=2), 2, 32),
}


@pytest.mark.parametrize("name", PARTED)
def test_what_is_kept_of_rows_in_parts_is_near_what_is_compiled_here(name):
    """Sizes whose activations are most of what lives within a step; without a device's share of the places they would
    be twice as much, without the idle steps of 4 stages 4/7 of it."""
    mesh, repeats, rows = PARTED[name]
    run = flags.load(CAUSAL)
    run.model = dataclasses.replace(run.model, layers=8, layer_loop="scan", stage_repeats=repeats)
    run = dataclasses.replace(run, batch_size=rows, mesh=mesh, precision="float32", ema_decay=0.0)
    run.stages = (dataclasses.replace(run.stages[0], length=256),)
    program, batches = on_this_machine(run)
    with jax.set_mesh(program.mesh):
        compiled = program.train_step().lower(program.state, program.frozen, batches).compile()
    found, _ = memory.of(program, batches, CPUS)
    ratio = (found.total - found.held) / compiled.memory_analysis().temp_size_in_bytes
    assert NEAR < ratio < 1 / NEAR, (ratio, found)


@pytest.mark.parametrize("remat", ["none", "block"])
def test_the_estimate_of_a_peak_is_within_a_factor_of_what_is_compiled_here(remat):
    """A CPU's program fuses less and shares more than a TPU's; docs/scale.md has the errors for those."""
    run = flags.parse(
        ["plan", "quickstart_llama", f"--config.model.remat={remat}", "--config.batch_size=64"]
    ).run
    program, batches = on_this_machine(dataclasses.replace(run, mesh=Mesh(data=8)))
    with jax.set_mesh(program.mesh):
        compiled = program.train_step().lower(program.state, program.frozen, batches).compile()
    ratio = memory.of(program, batches, CPUS)[0].total / device_memory.estimate(compiled)
    assert 0.5 < ratio < 2.0, ratio


def test_the_largest_array_that_is_kept_is_named_as_xla_writes_it():
    kept = memory.of(*on_this_machine(loaded()), CPUS)[1]
    assert str(kept[0]) == "float32[1,4,48,48]"  # the scores of one row of 48 tokens, 4 heads
    assert kept[0].bytes == 4 * 4 * 48 * 48 >= kept[-1].bytes > 0


def test_a_program_needs_no_device_that_is_there():
    program = described.program(loaded(mesh=Mesh(data=1, fsdp=-1)), targets.parse("v5e-8").devices())
    assert isinstance(program, Program) and program.mesh.shape["fsdp"] == 8


def test_relative_positions_keep_no_scores_where_a_kernel_adds_them():
    """As a TPU's program would: T5's encoder; and its working arrays are those of one block of both sides."""
    run, target = flags.load("quickstart_t5"), targets.parse("v5e-8")
    run.stages = (dataclasses.replace(run.stages[0], length=256),)

    def found(attention):
        model = dataclasses.replace(run.model, attention=attention)
        program = described.program(dataclasses.replace(run, model=model), target.devices())
        return memory.of(program, described.batches(program, described.stages(run)[0][0]), target)

    scores = lambda kept: sum(one.shape[-2:] == (256, 256) for one in kept)
    (by_kernel, kept), (plain, all_kept) = found("auto"), found("xla")
    assert scores(all_kept) > 0 == scores(kept) and by_kernel.activations < plain.activations
    assert by_kernel.working < by_kernel.activations
