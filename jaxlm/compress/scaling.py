"""Inputs scaled before a matrix is rounded, and the matrix the other way. In: what it gets. Out: codes, and the scales.

What a token brings is then divided by `s`, the matrix multiplied: the product is the same, but for what is rounded.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxlm.compress.calibration import Inputs
from jaxlm.compress.rounding import Finder
from jaxlm.errors import UserError
from jaxlm.models.beside import Scaled
from jaxlm.models.split import Split
from jaxlm.views.rounding import Rounding
from jaxlm.views.view import Facts, parts

Round = Callable[[jax.Array], jax.Array]  # a matrix, to what is left of it


class Scaling(Finder):
    """Finders that scale inputs."""

    def found(self, path: str, one: Facts, weight: jax.Array, rule: Rounding, inputs: Inputs) -> Scaled:
        """The rounded matrix, times s, and what undoes it."""
        stack, inner, outer = parts(one, weight.shape)
        flat = weight.reshape(*stack, math.prod(inner), math.prod(outer))
        round_ = lambda w: rule.nearest(path, one, w.reshape(weight.shape)).full().reshape(flat.shape)
        scale = self.scale(flat, inputs, round_).reshape(*stack, *inner, *(1 for _ in outer))
        return Scaled(rule.nearest(path, one, weight * scale), 1 / scale, None)

    def scale(self, w_IO: jax.Array, inputs: Inputs, rounded: Round) -> jax.Array:
        """s_I, with what is stacked in front of all."""
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class AWQ(Scaling):
    """s = (mean |x|)^a, a of a grid: what leaves the least error of the matrix's results (Lin et al., 2306.00978)."""

    grid: int  # exponents that are tried, from 0 up to below 1; published: 20

    def validate(self, where: str) -> None:
        """A few."""
        if not 1 <= self.grid <= 1000:
            raise UserError(f"{where}.grid={self.grid}: must be 1 to 1000 (published: 20).")

    def scale(self, w_IO: jax.Array, inputs: Inputs, rounded: Round) -> jax.Array:
        """Of the best exponent for each matrix of a stack."""
        mean_I = inputs.total_I / jnp.maximum(inputs.total_I.mean(-1, keepdims=True), 1e-30)
        found = jnp.ones_like(mean_I)
        best = jnp.full(mean_I.shape[:-1], jnp.inf)
        for exponent in range(self.grid):
            s_I = jnp.maximum(mean_I, 1e-4) ** (exponent / self.grid)
            s_I = s_I / jnp.sqrt(s_I.max(-1, keepdims=True) * s_I.min(-1, keepdims=True))
            error = w_IO - rounded(w_IO * s_I[..., None]) / s_I[..., None]
            lost = (error * jnp.matmul(inputs.square_II, error)).sum((-2, -1))
            found = jnp.where((lost < best)[..., None], s_I, found)
            best = jnp.minimum(lost, best)
        return found


@dataclasses.dataclass(kw_only=True)
class Smooth(Scaling):
    """s = max |x|^a / max |w|^(1 - a): outliers of activations are moved into the weights (Xiao et al., 2211.10438)."""

    strength: float  # a; published: 0.5

    def validate(self, where: str) -> None:
        """A part."""
        if not 0 <= self.strength <= 1:
            raise UserError(f"{where}.strength={self.strength}: must be 0 to 1 (published: 0.5).")

    def scale(self, w_IO: jax.Array, inputs: Inputs, rounded: Round) -> jax.Array:
        """By input."""
        largest_I = jnp.abs(w_IO).max(-1)
        s_I = jnp.maximum(inputs.largest_I, 1e-5) ** self.strength / jnp.maximum(largest_I, 1e-5) ** (
            1 - self.strength
        )
        return jnp.maximum(s_I, 1e-5)


@dataclasses.dataclass(kw_only=True)
class Outliers(Finder):
    """The inputs with the largest |x| stay floating, all others as another finder has them (2208.07339)."""

    inputs: int  # that stay, of every matrix; 16 of 1,536 cost a fifth of an int8 product's time
    rest: Finder  # of all others

    def validate(self, where: str) -> None:
        """Some."""
        if self.inputs < 1:
            raise UserError(f"{where}.inputs={self.inputs}: must be 1 or more, such as 16.")
        self.rest.validate(f"{where}.rest")

    def found(self, path: str, one: Facts, weight: jax.Array, rule: Rounding, inputs: Inputs) -> Split:
        """Their rows and numbers are 0 to the other finder."""
        stack, inner, outer = parts(one, weight.shape)
        size = math.prod(inner)
        if self.inputs >= size:
            raise UserError(
                f"{path} has {size} inputs, and {self.inputs} are to stay as they are. Fix: fewer."
            )
        at_K = jax.lax.top_k(inputs.largest_I, self.inputs)[1].astype(jnp.int32)
        others_I = 1 - jax.nn.one_hot(at_K, size).sum(-2)
        kept_KO = jnp.take_along_axis(weight.reshape(*stack, size, -1), at_K[..., None], axis=-2)
        left = weight * others_I.reshape(*stack, *inner, *(1 for _ in outer))
        seen = Inputs(
            inputs.square_II * others_I[..., None] * others_I[..., None, :],
            inputs.largest_I * others_I,
            inputs.total_I * others_I,
        )
        rest = self.rest.found(path, one, left, rule, seen)
        return Split(rest, at_K, kept_KO.reshape(*stack, self.inputs, *outer))
