"""What measures a model: any number of objects, each with its cadence. In: a program, its text, a split. Out: metrics.

Held-out loss is one (`HeldOutLoss`); a recipe adds others in `evaluators=(...)`, and `jaxlm evaluate` runs
them on a split of a trained run. Nothing is registered.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax

from jaxlm.config import Stage
from jaxlm.evaluate import held_out
from jaxlm.evaluate.held_out import HeldOut
from jaxlm.run import inputs
from jaxlm.run.inputs import Split
from jaxlm.run.program import Program
from jaxlm.run.streams import StreamRows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ready:
    """What an evaluator works with."""

    program: Program
    text: inputs.Text
    frozen: Any  # what the run's view leaves as it is
    stage: Stage
    split: Split  # what is read
    rows: tuple[StreamRows, ...]  # of the split, packed, in their fixed order


class Measuring(Protocol):
    """An evaluator that has been started."""

    names: Sequence[str]  # of the metrics that it gives

    def __call__(self, weights: Any) -> Mapping[str, float]:
        """{name: value} of these trained parameters."""
        ...


class Evaluator(Protocol):
    """A keyword-only dataclass."""

    every_steps: int  # 0: whenever the held-out loss is measured

    def start(self, ready: Ready) -> Measuring:
        """Whatever is done once, such as compiling."""
        ...


@dataclasses.dataclass(kw_only=True)
class HeldOutLoss:
    """Loss and measures of the objective on held-out rows: `eval/loss`, `eval/<measure>`; of every source, too."""

    every_steps: int = 0  # 0: at every evaluation of the run
    rows: int = 0  # at most; 0: all

    def start(self, ready: Ready) -> HeldOut:
        """Compiles when it is first called."""
        program, step = ready.program, ready.program.eval_step()
        measure = lambda params, batch: step(params, ready.frozen, batch)

        def batches() -> Any:
            for read in ready.rows:
                found = inputs.evaluation_batches(
                    program.run, ready.text, [read], program.mesh, limit=self.rows
                )
                yield from ((read.source, batch) for batch in found)

        shapes = program.batches(ready.stage, ready.text.vocabulary)
        measures = jax.eval_shape(measure, program.state.params, shapes)
        return HeldOut(measure, batches, held_out.names(measures, [read.source for read in ready.rows]))
