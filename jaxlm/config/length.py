"""How long a run is, and in which parts. In: a Run. Out: UserError for a length that none can have."""

from typing import Any

from jaxlm.config.tree import within
from jaxlm.errors import UserError


def check(run: Any, where: str) -> None:
    """Steps or epochs, and stages whose shares are all of them."""
    within(run.steps, 0, None, f"{where}.steps")
    within(run.epochs, 0.0, 1e6, f"{where}.epochs")
    if not run.steps and not run.epochs:
        raise UserError(
            f"{where}.steps=0 is out of range; allowed: at least 1, or 0 beside {where}.epochs, of which it is counted."
        )
    shares = [stage.share for stage in run.stages]
    if not shares or not (
        min(shares) >= 0.0 and abs(sum(shares) - 1.0) <= 1e-6
    ):  # so that NaN is refused too
        raise UserError(
            f"{where}.stages: the shares are {shares}; they must not be negative and must add up to 1."
        )
    for i, stage in enumerate(run.stages):
        if stage.length < 8:
            raise UserError(
                f"{where}.stages[{i}].length={stage.length} is out of range; allowed: at least 8."
            )
        run.model.check_row_length(stage.length, f"{where}.model")
