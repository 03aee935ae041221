"""A run on a machine that is not there. In: a Run, devices (described by `targets`, or by libtpu). Out: its program.

Guarantee: nothing is read, neither corpus nor tokenizer: of a vocabulary only the special tokens matter to shapes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.batch import Batches, Vocabulary
from jaxlm.config import Run, Stage
from jaxlm.errors import UserError
from jaxlm.exchange import teachers
from jaxlm.partition import mesh as meshes
from jaxlm.run.program import Program

_SENTINELS = 100
_FIRST = 5  # ids below are the special tokens
_LABELS = ("O", "B-X", "I-X")  # of a run whose classes only the corpus names: a class more is a vector more
_ENDLESS = 10**8  # steps of a run that is measured in epochs: as many as a schedule may ask for


def program(run: Run, devices: Sequence[Any]) -> Program:
    """UserError for a mesh or a batch that these devices cannot share."""
    if not run.steps:
        run = dataclasses.replace(run, steps=_ENDLESS)
    if getattr(run.objective, "missing_labels", ""):  # not of several tasks
        choices = getattr(run.objective, "choices", 0)
        labels = tuple(map(str, range(choices))) if choices else _LABELS
        run = dataclasses.replace(run, objective=run.objective.told(labels))
    run = teachers.described(run)
    mesh = meshes.make(run.mesh, devices)
    meshes.check_batch_size(run.batch_size, mesh, accumulate=run.accumulate)
    return Program.of(run, mesh)


def stages(run: Run) -> list[tuple[Stage, int | None]]:
    """(one stage, steps of all that are as long) for every row length; steps None: a run that is measured in epochs."""
    found: dict[int, tuple[Stage, int]] = {}
    for stage, (first, last) in zip(run.stages, run.stage_steps(), strict=True):
        one, steps = found.get(stage.length, (stage, 0))
        found[stage.length] = (one, steps + last - first)
    return [(stage, steps if run.steps else None) for stage, steps in found.values()]


def batches(program: Program, stage: Stage) -> Batches:
    """The abstract batches of a step. UserError for an objective that needs more than special tokens."""
    try:
        return program.batches(stage, _vocabulary())
    except UserError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"config.objective: the shapes of a batch of {type(program.run.objective).__name__} cannot be told without "
            f"its corpus ({type(error).__name__}: {error}). Fix: `jaxlm train --preflight` measures such a run."
        ) from error


def _vocabulary() -> Vocabulary:
    size = _FIRST + _SENTINELS
    return Vocabulary(
        size=size,
        pad=0,
        unk=1,
        cls=2,
        sep=3,
        mask=4,
        bos=2,
        eos=3,
        sentinels=tuple(range(_FIRST, size)),
        special_V=np.ones(size, bool),
        continues_V=np.zeros(size, bool),
    )
