"""The length of a run. In: (steps, tokens per step) of every stage. Out: durations as numbers of steps.

A duration is text: "10000", "10_000 steps", "10k steps", "2e9 tokens", "2B tokens" or "6%" (of the run's
steps). Tokens are token slots (rows x row length), so that a duration does not depend on how full the rows
are. Fractions of a step are rounded up, exactly (no binary fractions: 6 % of 100 steps are 6 steps).
"""

import dataclasses
import math
import re
from decimal import Decimal
from typing import Literal

from jaxlm.errors import UserError

Unit = Literal["steps", "tokens", "%"]
ALLOWED = '"10000", "10_000 steps", "2e9 tokens", "2B tokens" or "6%"'
_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_UNITS: dict[str, Unit] = {"": "steps", "s": "steps", "t": "tokens", "%": "%"}
_GRAMMAR = re.compile(
    r"(?P<number>\d[\d_]*(?:\.\d+)?(?:e\+?\d+)?)\s*(?P<suffix>[kmbt]?)\s*(?P<unit>%|steps?|tokens?|)",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Duration:
    """A parsed duration: so many steps, tokens, or percent of a run."""

    amount: Decimal
    unit: Unit


def parse(duration: str, where: str) -> Duration:
    """Parses a duration; UserError names `where`, the value and what is allowed."""
    match = _GRAMMAR.fullmatch(duration.strip()) if isinstance(duration, str) else None
    if match is None:
        raise UserError(f"{where}={duration!r}: not a duration. Write text like {ALLOWED}.")
    unit: Unit = _UNITS[match["unit"].lower()[:1]]
    amount = Decimal(match["number"].replace("_", "")) * _SUFFIXES[match["suffix"].lower()]
    if unit == "%" and (match["suffix"] or amount > 100):
        raise UserError(f"{where}={duration!r}: a percentage of the run must be 0% to 100%.")
    if unit == "steps" and amount != int(amount):
        raise UserError(f"{where}={duration!r}: a number of steps must be whole. Write {ALLOWED}.")
    return Duration(amount, unit)


@dataclasses.dataclass(frozen=True)
class Horizon:
    """What a run will see: `stages` are (steps, tokens per step), one after another."""

    stages: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Stages may come as lists; they must not be empty or negative."""
        object.__setattr__(self, "stages", tuple((int(steps), int(tokens)) for steps, tokens in self.stages))
        if not self.stages or any(steps < 0 or tokens < 1 for steps, tokens in self.stages):
            raise ValueError(
                f"stages={self.stages}: give (steps >= 0, tokens per step >= 1) for at least one stage."
            )

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(steps for steps, _ in self.stages)

    def steps(self, duration: str, where: str) -> int:
        """Steps from the start until `duration` has passed; beyond the end the last stage goes on."""
        parsed = parse(duration, where)
        if parsed.unit == "steps":
            return int(parsed.amount)
        if parsed.unit == "%":
            return math.ceil(parsed.amount * self.total_steps / 100)
        return self._steps_until(math.ceil(parsed.amount))

    def _steps_until(self, tokens: int) -> int:
        passed = 0
        for steps, per_step in self.stages[:-1]:
            if tokens <= steps * per_step:
                return passed + -(-tokens // per_step)
            passed += steps
            tokens -= steps * per_step
        return passed + -(-tokens // self.stages[-1][1])
