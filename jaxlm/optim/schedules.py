"""Learning rates. In: a schedule config and a horizon. Out: step -> learning rate (float32), jit-able.

`step` counts optimizer updates done before: the first update gets `schedule(0)`. With a warm-up of W steps
the rate at step s < W is peak*s/W, so the first update changes nothing (as in google-research/bert and
Hugging Face) and step W has the peak. Nothing is evaluated past the last step: there every schedule stays at
its end.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxlm.errors import UserError
from jaxlm.optim import bounds
from jaxlm.optim import horizon as horizons
from jaxlm.optim.horizon import Horizon

Rate = Callable[[jax.typing.ArrayLike], jax.Array]


@dataclasses.dataclass(kw_only=True)
class Schedule:
    """What all schedules share: a linear warm-up from 0, then `after_warmup`."""

    peak: float  # learning rate at the end of the warm-up
    warmup: str  # duration: "10%" of the run, or "1000 steps"

    def validate(self, where: str) -> None:
        """Raises UserError for the first value that cannot work."""
        bounds.check_positive(self.peak, f"{where}.peak", fix="1e-4 is usual for AdamW.")
        horizons.parse(self.warmup, f"{where}.warmup")

    def make(self, horizon: Horizon, where: str) -> Rate:
        """The rate as a function of the step; UserError if the warm-up does not fit into the run."""
        self.validate(where)
        total = horizon.total_steps
        warmup = _fitting(self.warmup, horizon, f"{where}.warmup", room=total)
        after = self.after_warmup(warmup, horizon, where)

        def rate(step: jax.typing.ArrayLike) -> jax.Array:
            step = jnp.minimum(jnp.asarray(step, jnp.float32), float(total))
            return jnp.where(
                step < warmup, self.in_warmup(step, warmup), after(jnp.maximum(step, float(warmup)))
            )

        return rate

    def in_warmup(self, step: jax.Array, warmup: int) -> jax.Array:
        """The rate for a float32 step in [0, warmup)."""
        return self.peak * step / max(warmup, 1)

    def after_warmup(self, warmup: int, horizon: Horizon, where: str) -> Rate:
        """The rate for a float32 step in [warmup, total]."""
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class _WithEnd(Schedule):
    end: float  # learning rate when the run is over: a rate, not a share of the peak

    def validate(self, where: str) -> None:
        """The end must lie between 0 and the peak."""
        super().validate(where)
        fix = f"It is a learning rate; {where}.peak={self.peak}."
        bounds.check_number(self.end, f"{where}.end", low=0, high=self.peak, fix=fix)


@dataclasses.dataclass(kw_only=True)
class Constant(Schedule):
    """Warm-up, then the peak for good."""

    def after_warmup(self, warmup: int, horizon: Horizon, where: str) -> Rate:
        """The peak."""
        return lambda step: jnp.full_like(step, self.peak)


@dataclasses.dataclass(kw_only=True)
class WarmupLinear(_WithEnd):
    """Warm-up, then a straight line from the peak to `end` at the last step (as in Hugging Face)."""

    def after_warmup(self, warmup: int, horizon: Horizon, where: str) -> Rate:
        """peak + (end - peak) * progress."""
        left = _left(warmup, horizon)
        return lambda step: self.end + (self.peak - self.end) * left(step)


@dataclasses.dataclass(kw_only=True)
class BertLinear(_WithEnd):
    """google-research/bert, optimization.py: the line goes from the peak at step 0, also under the warm-up.

    At the end of the warm-up the rate therefore drops from the peak to the line: by W/total of the way.
    """

    def after_warmup(self, warmup: int, horizon: Horizon, where: str) -> Rate:
        """peak + (end - peak) * step/total."""
        left = _left(0, horizon)
        return lambda step: self.end + (self.peak - self.end) * left(step)


@dataclasses.dataclass(kw_only=True)
class WarmupCosine(_WithEnd):
    """Warm-up, then half a cosine from the peak to `end` at the last step."""

    def after_warmup(self, warmup: int, horizon: Horizon, where: str) -> Rate:
        """end + (peak - end) * (1 + cos(pi * progress)) / 2."""
        left = _left(warmup, horizon)
        return lambda step: self.end + (self.peak - self.end) * _cosine(left(step))


@dataclasses.dataclass(kw_only=True)
class Polynomial(_WithEnd):
    """Warm-up, then end + (peak - end) * (1 - progress)^power."""

    power: float  # 1: a straight line; 2: a parabola

    def validate(self, where: str) -> None:
        """The power must be positive."""
        super().validate(where)
        bounds.check_positive(self.power, f"{where}.power", fix="1 is a straight line, 2 a parabola.")

    def after_warmup(self, warmup: int, horizon: Horizon, where: str) -> Rate:
        """The polynomial."""
        left = _left(warmup, horizon)
        return lambda step: self.end + (self.peak - self.end) * left(step) ** self.power


@dataclasses.dataclass(kw_only=True)
class InverseSquareRoot(Schedule):
    """Warm-up of W steps, then peak * sqrt(W / step); never reaches 0."""

    def after_warmup(self, warmup: int, horizon: Horizon, where: str) -> Rate:
        """peak * sqrt(W / step); needs W > 0, the rate's only scale."""
        if warmup == 0:
            raise UserError(
                f'{where}.warmup={self.warmup!r}: must be above 0. Fix: --{where}.warmup="10000 steps", say.'
            )
        return lambda step: self.peak * jnp.sqrt(warmup / step)


@dataclasses.dataclass(kw_only=True)
class HeldInverseSquareRoot(InverseSquareRoot):
    """The peak for W steps instead of a warm-up, then peak * sqrt(W / step): T5's 1 / sqrt(max(step, 10,000))."""

    def in_warmup(self, step: jax.Array, warmup: int) -> jax.Array:
        """The peak."""
        return jnp.full_like(step, self.peak)


@dataclasses.dataclass(kw_only=True)
class WarmupStableDecay(_WithEnd):
    """Warm-up, the peak, and a decay to `end` over the last `decay` of the run.

    `shape` over the share x of the decay: linear 1 - x, sqrt 1 - sqrt(x) (ModernBERT), cosine (1 + cos(pi x))
    / 2.
    """

    decay: str  # duration of the decay, which ends with the run: "10%", or "1000 steps"
    shape: Literal["linear", "sqrt", "cosine"]  # of the decay: linear, 1 - sqrt, or half a cosine

    def validate(self, where: str) -> None:
        """Checks the decay and its shape."""
        super().validate(where)
        horizons.parse(self.decay, f"{where}.decay")
        bounds.check_choice(self.shape, f"{where}.shape", ("linear", "sqrt", "cosine"))

    def after_warmup(self, warmup: int, horizon: Horizon, where: str) -> Rate:
        """The peak until the decay starts; UserError if warm-up and decay do not fit into the run."""
        total = horizon.total_steps
        decay = _fitting(self.decay, horizon, f"{where}.decay", room=total - warmup)
        left = _left(total - decay, horizon)
        shapes = {"linear": lambda y: y, "sqrt": lambda y: 1.0 - jnp.sqrt(1.0 - y), "cosine": _cosine}
        shape = shapes[self.shape]
        return lambda step: self.end + (self.peak - self.end) * shape(left(step))


def _fitting(duration: str, horizon: Horizon, where: str, *, room: int) -> int:
    steps = horizon.steps(duration, where)
    if steps > room:
        raise UserError(
            f"{where}={duration!r} is {steps} steps, but {room} of the run's {horizon.total_steps} are free. "
            f'Make it shorter (a share like "6%" always follows the run), or the run longer.'
        )
    return steps


def _left(start: int, horizon: Horizon) -> Rate:
    """1 until `start`, then falling to 0 at the last step in a straight line."""
    # Steps are whole numbers below 2^24, so the difference is exact in float32; the quotient is rounded once.
    total = horizon.total_steps
    return lambda step: jnp.clip((total - step) / max(total - start, 1), 0.0, 1.0)


def _cosine(left: jax.Array) -> jax.Array:
    return 0.5 * (1.0 - jnp.cos(jnp.pi * left))
