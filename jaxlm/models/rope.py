"""Rotary position embedding (Su et al., 2021) and its published scalings to longer texts.

In: a `Rope` and the positions of a row. Out: cosines and sines, and queries or keys turned by them. Guaranteed: angles
in float32; pairs are (i, i + H/2), as in transformers' files (the original Llama release pairs neighbours).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.errors import UserError
from jaxlm.models import kernels

Rotation = tuple[jax.Array, jax.Array]  # cos_BTH, sin_BTH, float32; both halves of H


@dataclasses.dataclass(kw_only=True)
class Unscaled:
    """Angles as published."""

    def apply(self, inverse: np.ndarray, base: float) -> tuple[np.ndarray, float]:
        """Frequencies (radians a position, H/2 of them), and a factor on cosines and sines."""
        return inverse, 1.0


@dataclasses.dataclass(kw_only=True)
class Linear:
    """Position interpolation (Chen et al., 2306.15595): every angle divided by `factor`."""

    factor: float  # how many times longer rows become

    def apply(self, inverse: np.ndarray, base: float) -> tuple[np.ndarray, float]:
        """See Unscaled."""
        return inverse / self.factor, 1.0


@dataclasses.dataclass(kw_only=True)
class Llama3:
    """Llama 3.1's: slow angles divided by `factor`, fast ones kept, a ramp between (Dubey et al., 2407.21783)."""

    factor: float  # how many times longer rows become
    low_frequency: float  # turns in `original` positions below which an angle is divided; published: 1
    high_frequency: float  # turns above which it is kept; published: 4
    original: int  # positions of the first training

    def apply(self, inverse: np.ndarray, base: float) -> tuple[np.ndarray, float]:
        """See Unscaled."""
        turns = self.original * inverse / (2 * math.pi)
        kept = (turns - self.low_frequency) / (self.high_frequency - self.low_frequency)
        kept = np.clip(kept, 0, 1)
        return (1 - kept) * inverse / self.factor + kept * inverse, 1.0


@dataclasses.dataclass(kw_only=True)
class Yarn:
    """YaRN (Peng et al., 2309.00071): a ramp over dimensions, and the softmax sharpened."""

    factor: float  # how many times longer rows become
    original: int  # positions of the first training
    beta_fast: float  # turns in `original` positions above which an angle is kept; published: 32
    beta_slow: float  # turns below which it is divided; published: 1
    attention_factor: float  # on cosines and sines; published: 0.1 ln(factor) + 1

    def apply(self, inverse: np.ndarray, base: float) -> tuple[np.ndarray, float]:
        """See Unscaled."""
        half = len(inverse)
        dimension = lambda turns: half * math.log(self.original / (turns * 2 * math.pi)) / math.log(base)
        low = max(math.floor(dimension(self.beta_fast)), 0)
        high = min(math.ceil(dimension(self.beta_slow)), 2 * half - 1)
        divided = np.clip((np.arange(half) - low) / max(high - low, 1e-3), 0, 1)
        return divided * inverse / self.factor + (1 - divided) * inverse, self.attention_factor


Scaling = Unscaled | Linear | Llama3 | Yarn


@dataclasses.dataclass(kw_only=True)
class Rope:
    """`base` is 10,000 as published, 500,000 in Llama 3."""

    base: float  # angles turn by base^(-2i / head_dim) a position; 10,000 as published
    scaling: Scaling  # Unscaled(), Linear, Llama3 or Yarn

    def validate(self, where: str) -> None:
        """UserError for what gives no angles."""
        if not 1 < self.base < math.inf:
            raise UserError(f"{where}.base={self.base}: must be above 1 (published: 10000.0).")
        for field in dataclasses.fields(self.scaling):
            value = getattr(self.scaling, field.name)
            if not 0 < value < math.inf:
                raise UserError(f"{where}.scaling.{field.name}={value}: must be above 0.")
        if isinstance(self.scaling, Llama3) and not self.scaling.low_frequency < self.scaling.high_frequency:
            raise UserError(
                f"{where}.scaling: low_frequency={self.scaling.low_frequency} must be below "
                f"high_frequency={self.scaling.high_frequency}."
            )

    def rotation(self, positions_BT: jax.Array, head_dim: int) -> Rotation:
        """Cosines and sines for these positions."""
        inverse = self.base ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        scaled, factor = self.scaling.apply(inverse, self.base)
        # float32: bfloat16 cannot tell position 257 from 256.
        angles = positions_BT.astype(jnp.float32)[..., None] * scaled.astype(np.float32)
        both = jnp.concatenate([angles, angles], axis=-1)
        return jnp.cos(both) * factor, jnp.sin(both) * factor


def rotate(x_BTNH: jax.Array, rotation: Rotation) -> jax.Array:
    """Queries or keys turned by their positions; the dtype stays."""
    cos_BTNH, sin_BTNH = (wave[:, :, None] for wave in rotation)
    turned = _by_matmul(x_BTNH) if kernels.platform() == "tpu" else _by_halves(x_BTNH)
    turned = turned.astype(jnp.float32)
    return (x_BTNH.astype(jnp.float32) * cos_BTNH + turned * sin_BTNH).astype(x_BTNH.dtype)


def _by_halves(x_BTNH: jax.Array) -> jax.Array:
    """(first, second) -> (-second, first)."""
    first, second = jnp.split(x_BTNH, 2, axis=-1)
    return jnp.concatenate([-second, first], axis=-1)


def _by_matmul(x_BTNH: jax.Array) -> jax.Array:
    """The same to the bit: of each sum one summand is not 0. To move halves of registers costs a TPU five times as much
    (of Llama-7B's step on v5e, compiled, a tenth)."""
    turn_HH = _by_halves(jnp.eye(x_BTNH.shape[-1], dtype=x_BTNH.dtype))
    exact = jax.lax.Precision.HIGHEST if x_BTNH.dtype == jnp.float32 else None
    return jnp.matmul(x_BTNH, turn_HH, precision=exact)
