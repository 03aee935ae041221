"""Going back before excluded steps. In: the checkpoints of a run, `Run.exclude`. Out: only those that fit it are left.

A checkpoint fits when every row it has read is one that the configuration reads. The others are set aside, as
`<step>.excluded`; none is deleted.
"""

from collections.abc import Callable

from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import Run, excluded
from jaxlm.errors import UserError


def go_back(checkpoints: Checkpoints, run: Run, say: Callable[[str], None]) -> None:
    """Sets aside the checkpoints that read rows which `run` does not. UserError when none would be left."""
    steps = checkpoints.steps()
    unfit = [step for step in steps if not _fits(checkpoints, step, run)]
    if not unfit:
        return
    if unfit[0] == steps[0]:
        raise UserError(
            f"config.exclude={run.exclude!r}: no checkpoint is from before these steps; there are {steps}. Fix: name "
            "another --workdir, where the run starts anew without them; or exclude steps after the oldest."
        )
    aside = checkpoints.set_aside_from(unfit[0], "excluded")
    names = ", ".join(f"{step}.excluded" for step in aside)
    say(f"excluded steps {run.exclude!r}: what read them is now {names}")


def _fits(checkpoints: Checkpoints, step: int, run: Run) -> bool:
    try:
        saved = checkpoints.meta(step).get("config", {}).get("exclude", [])
    except UserError:
        return True  # damaged, which is found out next
    differs = excluded.differ_from(saved, run.exclude)
    return differs is None or step < differs
