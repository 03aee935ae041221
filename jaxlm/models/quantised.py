"""A weight as small numbers and scales: int8, int4, nf4 or fp8. In: an array, how to round it. Out: a `Value`.

Scales have the rank of the weight and stand for blocks of it, so that stacks, tables, transposes and meshes treat both
alike: a scale of shape [1, 1, D] over a weight of [N, H, D] is one for every output, [N, H / 32, D] one for 32 inputs.
Guaranteed: with floating activations the numbers are those of `full()`, to rounding; few rows never form it.
"""

import dataclasses
import functools
import math
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.models.dense import dense
from jaxlm.models.kernels import platform
from jaxlm.models.values import Value

Kind = Literal["int8", "int4", "nf4", "fp8"]
Activations = Literal["float", "int8", "int16"]
_BY_TOKEN = {"int8": 127, "int16": 127 * 256 + 127}  # the largest number that a row of x is rounded to
# The 16 values of a normal distribution's quantiles (Dettmers et al., 2305.14314, appendix E).
_BELOW = (-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0)
_ABOVE = (0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0)
_NF4 = np.array((*_BELOW, *_ABOVE), np.float32)
_HELD: dict[str, Any] = {
    "int8": jnp.int8,
    "int4": jnp.int4,
    "nf4": jnp.uint4,
    "fp8": jnp.float8_e4m3fn,
}
_LARGEST = {"int8": 127.0, "int4": 7.0, "nf4": 1.0, "fp8": 448.0}
_LEVELS = {"int8": 255, "int4": 15}  # between the lowest and the highest, where both are stored
# Rows up to which a group's scale is applied to its sums: with more, these sums take more memory than the weight.
_FEW = 64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantised(Value):
    """codes * scale + low, block by block."""

    codes: jax.Array  # of the weight's shape
    scale: jax.Array  # float32
    low: jax.Array | None  # float32, as scale; None: 0
    activations: Activations = dataclasses.field(metadata={"static": True})  # what comes in is rounded to

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array that it stands for."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """Of the array that it stands for."""
        return self.codes.ndim

    @property
    def dtype(self) -> jnp.dtype:
        """Of the array that it stands for."""
        return self.scale.dtype

    @property
    def T(self) -> "Quantised":
        """Of a table: what decodes with the same weight."""
        return jax.tree.map(lambda a: a.T, self)

    def astype(self, dtype: Any) -> Self:
        """Itself: scales stay float32, and a product has the dtype of what comes in."""
        return self

    def start(self) -> Self:
        """Itself: nothing of it is trained."""
        return self

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """Scales are applied to the sums."""
        result = jnp.dtype(result or x.dtype)
        if any(size > 1 for size in self.scale.shape[:contracted]):
            return self._by_groups(x, contracted, result)
        if self.activations != "float":
            return _whole_numbers(self.activations, contracted, result, x, self.codes, self.scale)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        outer = lambda a: a.reshape(a.shape[contracted:])
        y = dense(x, self._numbers(x.dtype), contracted=contracted, result=wide) * outer(self.scale)
        if self.low is not None:
            within = tuple(range(x.ndim - contracted, x.ndim))
            y += jnp.expand_dims(
                x.sum(within, dtype=wide), tuple(range(x.ndim - contracted, y.ndim))
            ) * outer(self.low)
        return y.astype(result)

    def rows(self, ids: jax.Array) -> jax.Array:
        """Rows of a table, whose scales are of rows."""
        part = jax.tree.map(lambda a: jnp.broadcast_to(a, (self.shape[0], *a.shape[1:]))[ids], self)
        return part.full()

    def full(self) -> jax.Array:
        """The array, float32."""
        array = _apart(self._numbers(jnp.float32), self.scale.shape) * _apart(self.scale, self.scale.shape)
        if self.low is not None:
            array = array + _apart(self.low, self.scale.shape)
        return array.reshape(self.shape)

    def _numbers(self, dtype: Any) -> jax.Array:
        """What scales multiply."""
        return numbers(self.codes, "nf4" if self.codes.dtype == jnp.uint4 else "int8", dtype)

    def _by_groups(self, x: jax.Array, contracted: int, result: jnp.dtype) -> jax.Array:
        rows = x.shape[: x.ndim - contracted]
        if math.prod(rows) > _FEW:
            return dense(x, self.full().astype(x.dtype), contracted=contracted, result=result)
        groups, outputs = math.prod(self.scale.shape[:contracted]), self.shape[contracted:]
        w_GIO = self._numbers(x.dtype).reshape(groups, -1, math.prod(outputs))
        x_BGI = x.reshape(-1, groups, w_GIO.shape[1])
        flat = lambda a: a.reshape(groups, -1)
        y_BGO = jnp.einsum("BGI,GIO->BGO", x_BGI, w_GIO, preferred_element_type=jnp.float32)
        y_BO = jnp.einsum("BGO,GO->BO", y_BGO, flat(self.scale))
        if self.low is not None:
            y_BO += x_BGI.sum(-1, dtype=jnp.float32) @ flat(self.low)
        return y_BO.reshape(*rows, *outputs).astype(result)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _whole_numbers(
    activations: Activations,
    contracted: int,
    result: jnp.dtype,
    x: jax.Array,
    codes: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """Every row of x is rounded by its largest number; int8 by int8, sums are int32. Of 16 bits each byte is a row."""
    rows, outputs = x.shape[: x.ndim - contracted], codes.shape[contracted:]
    x_BI, own_B1 = _by_token(x.reshape(-1, math.prod(x.shape[x.ndim - contracted :])), 1, activations)
    count = len(x_BI)
    if activations == "int16":
        upper_BI = jnp.floor((x_BI + 128) / 256)
        x_BI = jnp.concatenate([upper_BI, x_BI - 256 * upper_BI])
    elif count == 1 and platform() == "cpu":
        # one row leaves XLA's library: 0.33 ms instead of 0.06 (576 x 1,536)
        x_BI = jnp.concatenate([x_BI, jnp.zeros_like(x_BI)])
    matrix_IO = codes.reshape(x_BI.shape[1], -1)
    sums = jnp.matmul(x_BI.astype(jnp.int8), matrix_IO, preferred_element_type=jnp.int32)
    y_BO = sums[:count].astype(jnp.float32)
    if activations == "int16":
        y_BO = 256 * y_BO + sums[count:].astype(jnp.float32)
    return (y_BO * own_B1 * scale.reshape(1, -1)).reshape(*rows, *outputs).astype(result)


def _whole_numbers_forward(
    activations: Activations, contracted: int, result: jnp.dtype, *arrays: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _whole_numbers(activations, contracted, result, *arrays), arrays


def _whole_numbers_backward(
    activations: Activations,
    contracted: int,
    result: jnp.dtype,
    kept: tuple[jax.Array, ...],
    g: jax.Array,
) -> tuple[jax.Array, None, jax.Array]:
    """As if nothing of x were rounded; codes and scales are not trained here."""
    x, codes, scale = kept
    through = lambda x: Quantised(codes, scale, None, "float").product(x, contracted, result)
    return jax.vjp(through, x)[1](g)[0], None, jnp.zeros_like(scale)


_whole_numbers.defvjp(_whole_numbers_forward, _whole_numbers_backward)


def by_token(x: jax.Array, contracted: int, activations: Activations) -> jax.Array:
    """x as a product of whole numbers reads it: each row rounded by its largest number."""
    numbers, own = _by_token(x, contracted, activations)
    return numbers * own


def _by_token(x: jax.Array, contracted: int, activations: Activations) -> tuple[jax.Array, jax.Array]:
    """(whole numbers, their scale) of every row."""
    within, wide = tuple(range(x.ndim - contracted, x.ndim)), x.astype(jnp.float32)
    own = jnp.maximum(jnp.abs(wide).max(within, keepdims=True), 1e-30) / _BY_TOKEN[activations]
    return jnp.round(wide / own), own


def encode(
    array: jax.Array,
    blocks: tuple[int, ...],
    kind: Kind,
    activations: Activations = "float",
    *,
    low: bool = False,
) -> Quantised:
    """Rounded to the nearest; a scale for each of so many blocks along every dimension.

    The largest absolute value of a block gets the largest code; with `low` the lowest value the lowest, the highest the
    highest (int8, int4). Blocks of zeros stay zeros.
    """
    apart = _apart(array.astype(jnp.float32), blocks)
    within = tuple(range(1, apart.ndim, 2))
    if low:
        bottom, top = apart.min(within, keepdims=True), apart.max(within, keepdims=True)
        scale = (top - bottom) / _LEVELS[kind]
        half = (_LEVELS[kind] + 1) // 2  # codes are signed
        bottom = bottom + half * scale
        codes = rounded((apart - bottom) / some(scale), kind)
        return Quantised(
            codes.reshape(array.shape), scale.reshape(blocks), bottom.reshape(blocks), activations
        )
    scale = jnp.abs(apart).max(within, keepdims=True) / _LARGEST[kind]
    codes = rounded(apart / some(scale), kind)
    return Quantised(codes.reshape(array.shape), scale.reshape(blocks), None, activations)


def held_as(kind: Kind) -> Any:
    """The dtype of codes."""
    return _HELD[kind]


def numbers(codes: jax.Array, kind: Kind, dtype: Any = jnp.float32) -> jax.Array:
    """What scales multiply."""
    return jnp.asarray(_NF4, dtype)[codes.astype(jnp.int32)] if kind == "nf4" else codes.astype(dtype)


def rounded(x: jax.Array, kind: Kind) -> jax.Array:
    """Codes of what is divided by its scale."""
    if kind == "fp8":
        return x.astype(_HELD[kind])
    if kind == "nf4":
        between = (_NF4[1:] + _NF4[:-1]) / 2
        return jnp.searchsorted(between, x).astype(_HELD[kind])
    half = 128 if kind == "int8" else 8
    return jnp.clip(jnp.round(x), -half, half - 1).astype(_HELD[kind])


def some(scale: jax.Array) -> jax.Array:
    """Of a block of zeros 1."""
    return jnp.where(scale == 0, 1.0, scale)


def _apart(array: jax.Array, blocks: tuple[int, ...]) -> jax.Array:
    """[blocks of dimension 0, size of one, blocks of dimension 1, ...]."""
    shape = [
        n
        for size, count in zip(array.shape, blocks, strict=True)
        for n in (count, size // count if count else 1)
    ]
    return array.reshape(shape)


# On disk two codes of 4 bits share a byte, where the last dimension is even: the first in the lower half.


def packed(codes: jax.Array) -> jax.Array:
    """int4 or uint4 [..., N] -> uint8 [..., N / 2]; int8 where N is odd; others as they are."""
    if codes.dtype not in (jnp.int4, jnp.uint4):
        return codes
    wide = codes.astype(jnp.int8)
    if codes.shape[-1] % 2:
        return wide
    pairs = jax.lax.bitcast_convert_type(wide, jnp.uint8).reshape(*codes.shape[:-1], -1, 2) & 15
    return pairs[..., 0] | (pairs[..., 1] << 4)


def unpacked(codes: jax.Array, kind: Kind) -> jax.Array:
    """The other way."""
    if codes.dtype == jnp.uint8:
        pairs = jnp.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:-1], -1)
        signed = jnp.where(pairs > 7, pairs.astype(jnp.int8) - 16, pairs.astype(jnp.int8))
        codes = pairs if kind == "nf4" else signed
    return codes.astype(_HELD[kind])
