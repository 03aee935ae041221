"""Checks that the configs of all families share. In: a config and names of its fields. Out: a UserError or nothing."""

from typing import Any

from jaxlm.errors import UserError


def at_least_one(config: Any, where: str, *names: str) -> None:
    """Sizes."""
    for name in names:
        if getattr(config, name) < 1:
            raise UserError(f"{where}.{name}={getattr(config, name)}: must be at least 1.")


def above_zero(config: Any, where: str, *names: str) -> None:
    """Scales and epsilons."""
    for name in names:
        if getattr(config, name) <= 0:
            raise UserError(f"{where}.{name}={getattr(config, name)}: must be above 0.")


def not_below_zero(config: Any, where: str, *names: str) -> None:
    """Weights of terms of the loss."""
    for name in names:
        if not 0 <= getattr(config, name) < float("inf"):
            raise UserError(f"{where}.{name}={getattr(config, name)}: must be 0 (none) or above.")


def rates(config: Any, where: str, *names: str) -> None:
    """Dropouts."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{where}.{name}={getattr(config, name)}: a rate in [0, 1); 0 turns it off.")


def divides(config: Any, where: str) -> None:
    """Heads of hidden/heads."""
    if config.hidden % config.heads:
        raise UserError(
            f"{where}.hidden={config.hidden} does not divide by {where}.heads={config.heads}: every head is "
            f"hidden/heads wide. Change one of the two (heads of 64: heads={max(1, config.hidden // 64)})."
        )


def row_length(row_length: int, longest: int, where: str) -> None:
    """Rows that fit the positions of the model."""
    if row_length > longest:
        raise UserError(
            f"{where}.max_positions={longest}: rows are {row_length} tokens long. Shorten the rows to {longest} tokens "
            f"at most, or --{where}.max_positions={row_length}."
        )
