"""Which weights a run begins with and which are evaluated: settings that contradict. In: a Run. Out: UserError."""

from typing import Any

from jaxlm.errors import UserError


def check(run: Any, where: str) -> None:
    """UserError for two averages, or layers that begin anew where nothing is old."""
    if run.average_from and run.ema_decay:
        raise UserError(
            f"{where}.average_from and {where}.ema_decay are two averages. Fix: --{where}.ema_decay=0."
        )
    for number, view in enumerate(run.view):
        if (run.average_from or run.ema_decay) and not getattr(view, "averages", True):
            raise UserError(
                f"{where}.view[{number}]: an average of the weights of {type(view).__name__} averages the share that "
                f"is 0 as well, and has fewer. Fix: --{where}.ema_decay=0 --{where}.average_from="
            )
    if run.reset_layers < 0:
        raise UserError(f"{where}.reset_layers={run.reset_layers}: allowed is 0 or more.")
    if run.reset_layers and not run.init_from:
        raise UserError(
            f"{where}.reset_layers={run.reset_layers}: without {where}.init_from all layers are as drawn. Fix: "
            f"--{where}.reset_layers=0."
        )


def final_from(run: Any) -> int:
    """The step from which on the weights of a run may be taken for those of its end; views may change what they are."""
    return max((view.final_from(run.steps) for view in run.view), default=0)
