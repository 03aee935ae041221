"""Axes. In: values. Out: where they stand between 0 and 1, round numbers beside them, how a number is written."""

import dataclasses
import math
from collections.abc import Sequence

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Scale:
    """From a value to its share of the way from `low` to `high`."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """0 at `low`, 1 at `high`; of a logarithmic scale `value` > 0."""
        low, high, value = (
            map(math.log, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return (value - low) / (high - low)

    def ticks(self, most: int) -> list[float]:
        """Round numbers within, about `most` of them at the most."""
        decades = math.log10(self.high) - math.log10(self.low) if self.log else 0.0
        if decades < 1.3:
            return _linear(self.low, self.high, most)
        factors = (1, 2, 5) if decades < 3 else (1,)
        every = max(1, math.ceil(decades / most)) if factors == (1,) else 1
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
        return [value for value in found if self.low <= value <= self.high]


def around(values: Sequence[float], *, log: bool = False) -> Scale | None:
    """A scale with room around finite values; None for a logarithmic one where none is above 0."""
    values = [value for value in values if value > 0] if log else list(values)
    if not values:
        return None if log else Scale(0.0, 1.0)
    low, high = min(values), max(values)
    if log:
        room = max(math.exp(0.04 * (math.log(high) - math.log(low))), 1.01)
        return Scale(low / room, high * room, log=True)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(0.0 if 0 <= low < 0.2 * high else low - room, high + room)


def _linear(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in _STEPS if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def short(value: float, *, percent: bool = False) -> str:
    """A number as it stands beside an axis: 5e-4, 0.25, 1,200, 20k, 30%."""
    if percent:
        return f"{100 * value:.3g}%"
    size = abs(value)
    if size >= 1e15:
        return f"{value:.0e}".replace("e+", "e")
    if size >= 10_000:
        return next(f"{value / unit:.3g}{letter}" for unit, letter in _UNITS if size >= unit)
    if size and size < 1e-3:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
