"""Which weights a run begins with and which are evaluated: settings that contradict. In: a Run. Out: UserError."""

from typing import Any

from jaxlm.errors import UserError


def check(run: Any, where: str) -> None:
    """UserError for two averages, or layers that begin anew where nothing is old."""
    if run.average_from and run.ema_decay:
        raise UserError(
            f"{where}.average_from and {where}.ema_decay are two averages. Fix: --{where}.ema_decay=0."
        )
    if run.reset_layers < 0:
        raise UserError(f"{where}.reset_layers={run.reset_layers}: allowed is 0 or more.")
    if run.reset_layers and not run.init_from:
        raise UserError(
            f"{where}.reset_layers={run.reset_layers}: without {where}.init_from all layers are as drawn. Fix: "
            f"--{where}.reset_layers=0."
        )
