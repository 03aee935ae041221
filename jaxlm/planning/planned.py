"""A run on a target, planned. In: the words of a command line, a target. Out: `Planned`, stage by stage.

Where the TPU compiler is there, memory and traffic are those of the compiled step; else all is an
estimate, and says so.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxlm.config import Run, flags
from jaxlm.models import cost
from jaxlm.planning import compiled, described, memory, quick, roofline
from jaxlm.planning.compiled import Step
from jaxlm.planning.quick import Quick
from jaxlm.planning.roofline import Times
from jaxlm.planning.targets import Target

_DAY = 86_400.0


def times(found: Quick, step: Step | None, efficiency: float) -> Times:
    """Of a step, with the traffic of the compiled one where it is there and fits."""
    if step is None or not step.fits:
        return found.times
    return roofline.times(
        found.target,
        found.program.mesh,
        flops=found.flops,
        idle=found.program.schedule.bubble,
        hbm_bytes=step.hbm_bytes,
        collectives=step.collectives,
        efficiency=efficiency,
    )


def cycles_s(found: Quick, step: Step | None) -> float | None:
    """Seconds of a step by the compiler's cycles and those of splash attention: without the network, and without other
    kernels. None where they mean nothing."""
    clock = found.target.chip.clock
    return (step.cycles + step.attention_cycles) / clock if step and step.cycles and clock else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagePlan:
    """The steps of one row length."""

    length: int
    rows: int
    steps: int | None  # None: a run that is measured in epochs
    quick: Quick
    compiled: Step | None
    efficiency: float

    @property
    def times(self) -> Times:
        """Of a step; with the traffic of the compiled program where there is one."""
        return times(self.quick, self.compiled, self.efficiency)

    @property
    def mfu(self) -> float:
        """Predicted."""
        return roofline.mfu(self.quick.target, self.quick.model_flops, self.times.step)

    @property
    def cycles_s(self) -> float | None:
        """Of a step by the compiler."""
        return cycles_s(self.quick, self.compiled)

    @property
    def peak(self) -> int:
        """Bytes on a device at once."""
        return self.quick.memory.total if self.compiled is None else self.compiled.peak

    @property
    def capacity(self) -> float:
        """Bytes that a device has."""
        return (self.compiled.capacity if self.compiled else 0) or self.quick.capacity

    @property
    def fits(self) -> bool:
        """Whether a step can run."""
        return self.compiled.fits if self.compiled else self.quick.fits

    @property
    def tokens_per_second(self) -> float:
        """Positions, padding included, of the whole machine."""
        return self.rows * self.length / self.times.step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """All stages."""

    name: str
    target: Target
    run: Run
    parameters: int
    stages: list[StagePlan]
    exact: bool
    note: str  # why there is no compiled step, or ""

    @property
    def fits(self) -> bool:
        """All of them."""
        return all(stage.fits for stage in self.stages)

    @property
    def tightest(self) -> int:
        """The number of the stage that needs most memory."""
        return max(range(len(self.stages)), key=lambda i: self.stages[i].peak)

    @property
    def days(self) -> float | None:
        """To the run's last step."""
        seconds = [None if one.steps is None else one.steps * one.times.step for one in self.stages]
        return None if None in seconds else sum(s for s in seconds if s) / _DAY

    @property
    def chip_hours(self) -> float | None:
        """Of all chips together."""
        return None if self.days is None else 24 * self.days * self.target.size


def of(
    words: Sequence[str],
    target: Target,
    *,
    exact: bool = False,
    compile_it: bool = True,
    efficiency: float = roofline.EFFICIENCY,
    only: int | None = None,
) -> Planned:
    """UserError for a run that the target cannot share, and where the compiler fails. `only`: a stage's number."""
    command = flags.parse(["plan", *words])
    run = command.run
    note = why_not(target) if compile_it else "not compiled (--estimate)"
    made, known = [], memory.Known()
    for number, (stage, steps) in enumerate(described.stages(run)):
        if only not in (None, number):
            continue
        found = quick.of(run, target, stage, known=known, efficiency=efficiency)
        step = compiled.step(words, target, number, exact=exact) if not note else None
        one = StagePlan(
            length=stage.length,
            rows=run.batch_size,
            steps=steps,
            quick=found,
            compiled=step,
            efficiency=efficiency,
        )
        made.append(one)
    return Planned(
        name=command.workdir.name,
        target=target,
        run=run,
        parameters=cost.count_parameters(made[0].quick.program.params),
        stages=made,
        exact=exact,
        note=note,
    )


def why_not(target: Target) -> str:
    """Why nothing can be compiled for it, or ""."""
    if target.generation.platform != "tpu":
        return "not compiled: only TPU programs can be, without their machine"
    if not compiled.available():
        return 'not compiled: libtpu is not installed. Fix: pip install "jaxlm[tpu]"'
    return ""


def as_json(planned: Planned) -> dict[str, Any]:
    """Sizes in bytes of a device, times in seconds."""
    mesh = planned.stages[0].quick.program.mesh.shape
    return {
        "run": planned.name,
        "target": str(planned.target),
        "chips": planned.target.size,
        "mesh": dict(mesh),
        "parameters": planned.parameters,
        "fits": planned.fits,
        "note": planned.note,
        "stages": [_stage(one) for one in planned.stages],
        "days": planned.days,
        "chip_hours": planned.chip_hours,
    }


def _stage(one: StagePlan) -> dict[str, Any]:
    return {
        "length": one.length,
        "rows": one.rows,
        "steps": one.steps,
        "fits": one.fits,
        "peak": one.peak,
        "capacity": one.capacity,
        "estimate": dataclasses.asdict(one.quick.memory) | {"total": one.quick.memory.total},
        "compiled": dataclasses.asdict(one.compiled) if one.compiled else None,
        "model_flops": one.quick.model_flops,
        "flops": one.quick.flops,
        "seconds": one.times.bounds | {"step": one.times.step, "cycles": one.cycles_s},
        "bound": one.times.bound,
        "mfu": one.mfu,
        "tokens_per_second": one.tokens_per_second,
    }
