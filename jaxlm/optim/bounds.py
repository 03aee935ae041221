"""Checks of config values. In: a key path, a value, what is allowed. Out: nothing, or a UserError."""

import math
from collections.abc import Iterable

from jaxlm.errors import UserError, did_you_mean


def check_number(
    value: float, where: str, *, low: float, high: float = math.inf, strict: bool = False, fix: str
) -> None:
    """`low <= value <= high`, or `low <= value < high` if `strict`; finite."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and low <= value and (value < high if strict else value <= high):
        return
    upper = "" if high == math.inf else f" and {'below' if strict else 'at most'} {high:g}"
    raise UserError(f"{where}={value!r}: must be a number of at least {low:g}{upper}. {fix}")


def check_positive(value: float, where: str, *, fix: str) -> None:
    """`value > 0` and finite."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value <= 0:
        raise UserError(f"{where}={value!r}: must be a number above 0. {fix}")


def check_choice(value: str, where: str, allowed: Iterable[str]) -> None:
    """`value` is one of `allowed`."""
    known = list(allowed)
    if value not in known:
        choices = ", ".join(f'"{k}"' for k in known)
        raise UserError(f"{where}={value!r}: must be one of {choices}.{did_you_mean(str(value), known)}")
