"""What a run learns from beside its data, and which layers it takes over: settings that contradict. In: a Run. Out:
UserError."""

import re
from collections.abc import Sequence
from typing import Any

from jaxlm.errors import UserError

_WAYS = "first, last, spread, or numbers from 0, such as 0,2,4"


def check(run: Any, where: str) -> None:
    """UserError for an objective without its teacher, a teacher without a pupil, and layers of nothing."""
    if run.objective.needs_teacher and not run.teacher:
        raise UserError(
            f"{where}.objective compares with a teacher, and {where}.teacher names none. Fix: "
            f"--{where}.teacher=hf:DIR, or a run folder."
        )
    if run.teacher and not run.objective.needs_teacher:
        raise UserError(
            f"{where}.teacher={run.teacher}: {type(run.objective).__name__} learns from no teacher. Fix: "
            f'--{where}.objective="Distil(hard=0.5, terms=(SoftTargets(weight=0.5, temperature=2.0, '
            f"direction='forward', positions='targets'),))\", or --{where}.teacher= for none."
        )
    if run.teacher and run.objective.needs_average:
        raise UserError(
            f"{where}.objective compares with a teacher and with the average of the weights (Proximal). Fix: "
            "one of both."
        )
    if run.init_layers and not re.fullmatch(r"first|last|spread|\d+(,\d+)*", run.init_layers):
        raise UserError(f"{where}.init_layers={run.init_layers!r}: allowed are {_WAYS}.")
    if run.init_layers and not run.init_from:
        raise UserError(
            f"{where}.init_layers={run.init_layers}: without {where}.init_from there are no layers to take. Fix: "
            f"--{where}.init_from=hf:DIR, or --{where}.init_layers= for none."
        )


def chosen(how: str, have: int, want: int) -> Sequence[int]:
    """The numbers of `want` of `have` layers. UserError for fewer, or numbers that are none."""
    where = f"config.init_layers={how}"
    if want > have:
        raise UserError(
            f"{where}: the weights have {have} layers, the model {want}. Fix: --config.model.layers={have}."
        )
    if how == "first":
        return range(want)
    if how == "last":
        return range(have - want, have)
    if how == "spread":
        return [round(i * (have - 1) / max(want - 1, 1)) for i in range(want)]
    found = [int(number) for number in how.split(",")]
    if len(found) != want or max(found) >= have:
        raise UserError(
            f"{where}: the model has {want} layers, and the weights those from 0 to {have - 1}. Allowed are {_WAYS}: "
            f"{want} of them."
        )
    return found
