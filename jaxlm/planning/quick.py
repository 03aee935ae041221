"""A step without a compiler: shapes, FLOPs and a roofline. In: a run, a target. Out: `Quick`. Seconds, no libtpu.

Memory is `memory.of`; FLOPs are those of the jaxpr, and what rematerialisation computes again is added to them.
"""

import dataclasses
from collections.abc import Mapping

from jaxlm.batch import Batches
from jaxlm.config import Run, Stage
from jaxlm.models import cost
from jaxlm.partition import mesh as meshes
from jaxlm.planning import described, memory, roofline
from jaxlm.planning.memory import Kept, Memory
from jaxlm.planning.roofline import Times
from jaxlm.planning.targets import Target
from jaxlm.run.program import Program
from jaxlm.training import report

# Share of the forward pass that is computed again: the blocks. What travels to the host and back is not counted.
_REPEATED = {"none": 0.0, "dots": 0.0, "offload": 0.0, "attention": 1.0, "block": 1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quick:
    """A stage's step on a target, estimated."""

    program: Program
    batches: Batches
    memory: Memory
    kept: list[Kept]
    target: Target
    model_flops: float  # of one device, nothing twice
    flops: float  # of one device, with what is computed again
    times: Times

    @property
    def fits(self) -> bool:
        """By the estimate."""
        return self.memory.total <= self.capacity

    @property
    def capacity(self) -> float:
        """Bytes of a device; infinite where it is not known."""
        return self.target.chip.memory or float("inf")


def of(
    run: Run,
    target: Target,
    stage: Stage,
    flops: int | None = None,
    known: memory.Known | None = None,
    efficiency: float = roofline.EFFICIENCY,
) -> Quick:
    """UserError for a mesh or batch that the target cannot share. `flops`: those of the model,
    `known`: what was traced, of runs that differ in mesh, rematerialisation and accumulation only."""
    program = _program(run, target, known or memory.Known())
    batches = described.batches(program, stage)
    total = report.flops(program, batches) if flops is None else flops
    found, kept = memory.of(program, batches, target, known)
    model_flops = total / target.size
    computed = model_flops * (1 + _REPEATED[getattr(run.model, "remat", "none")] / 3)
    return Quick(
        program=program,
        batches=batches,
        memory=found,
        kept=kept,
        model_flops=model_flops,
        flops=computed,
        times=_times(program, stage, target, found, computed, efficiency),
        target=target,
    )


def _program(run: Run, target: Target, known: memory.Known) -> Program:
    """Rematerialisation and micro-batches change neither state nor shardings."""
    key = tuple(dataclasses.astuple(run.mesh))
    if key not in known.programs:
        known.programs[key] = described.program(run, target.devices())
    made = known.programs[key]
    meshes.check_batch_size(run.batch_size, made.mesh, accumulate=run.accumulate)
    return dataclasses.replace(
        made, run=dataclasses.replace(run, steps=made.run.steps, objective=made.run.objective)
    )


def _times(
    program: Program, stage: Stage, target: Target, found: Memory, flops: float, efficiency: float
) -> Times:
    run, mesh = program.run, dict(program.mesh.shape)
    width = 2 if program.model.dtype == "bfloat16" else 4
    weights = cost.count_parameters(program.params)
    rows = run.batch_size / (meshes.row_devices(program.mesh) * run.accumulate)
    return roofline.times(
        target,
        program.mesh,
        flops=flops,
        idle=program.schedule.bubble,
        efficiency=efficiency,
        hbm_bytes=_traffic(found, mesh, run.accumulate, width * weights),
        collectives=roofline.expected(
            mesh,
            weights=weights,
            width=width,
            stream=width * rows * stage.length * run.model.hidden,
            layers=memory.blocks(run.model),
            accumulate=run.accumulate,
            whole_weights=run.mesh.fsdp_splits == "optimizer",
            repeats=_REPEATED[getattr(run.model, "remat", "none")] > 0,
            schedule=program.schedule,
        ),
    )


def _traffic(found: Memory, mesh: Mapping[str, int], accumulate: int, weights: float) -> float:
    """Bytes read and written: the state once each way, weights for three products, activations there and back."""
    state = found.parameters + found.optimizer + found.averages + found.host + found.gradients
    products = 3 * accumulate * weights / (mesh["tensor"] * mesh["stage"])
    return 2 * state + products + accumulate * (2 * found.activations + 2 * found.working)
