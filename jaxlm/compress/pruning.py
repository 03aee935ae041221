"""Weights that count least become 0. In: which, how many, by what. Out: the same arrays with zeros.

By size, by size times the norm of what comes in (Wanda: Sun et al., 2306.11695), or with what is lost made good by the
weights that stay (SparseGPT: Frantar and Alistarh, 2301.00774). `view=(KeepZeros(...),)` keeps zeros in training.
"""

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxlm.compress.calibration import Calibration, Inputs
from jaxlm.compress.gptq import inverse_factor
from jaxlm.compress.step import Say, Step, named, with_weights
from jaxlm.errors import UserError, check_pattern
from jaxlm.infer.loaded import Loaded
from jaxlm.models.paths import flatten
from jaxlm.models.values import is_value
from jaxlm.views.view import Facts, parts

_BLOCK = 128  # inputs that are chosen among together by SparseGPT


@dataclasses.dataclass(kw_only=True)
class Prune(Step):
    """Published at half of the weights, Llama-7B's perplexity 5.68: Wanda 7.26, SparseGPT 7.22, by size 17.29."""

    weights: str  # regular expression: the matrices whose path begins with a match
    share: float  # of the weights that become 0
    of: int  # among so many neighbouring inputs, such as 4 (2:4 with share=0.5); 0: anywhere in an output's inputs
    by: Literal["magnitude", "wanda", "sparsegpt"]  # what says which

    def validate(self, where: str) -> None:
        """UserError for numbers that do not go together."""
        check_pattern(self.weights, f"{where}.weights")
        if not 0 < self.share < 1:
            raise UserError(f"{where}.share={self.share}: must be above 0 and below 1.")
        if self.of < 0 or (self.of and not (self.share * self.of).is_integer()):
            raise UserError(
                f"{where}.of={self.of}: {self.share} of {self.of} neighbours is no whole number of weights. Fix: "
                "of=4 with share=0.5 is 2:4; of=0 is anywhere."
            )

    @property
    def calibrated(self) -> bool:
        """By size alone no text is needed."""
        return self.by != "magnitude"

    def check(self, model: Loaded) -> None:
        """UserError when nothing is named, or groups do not divide it."""
        weights = flatten(model.params)
        for path, one in named(model, self.weights).items():
            if is_value(weights[path]):
                raise UserError(f"{path} is compressed already. Fix: prune first, then round.")
            inputs = math.prod(parts(one, weights[path].shape)[1])
            if self.of and inputs % self.of:
                raise UserError(
                    f"{path} has {inputs} inputs, which groups of {self.of} do not divide. Fix: of=0."
                )

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """Every matrix by itself."""
        self.check(model)
        weights, chosen = flatten(model.params), named(model, self.weights)
        inputs = text.inputs(model, list(chosen)) if self.calibrated and text is not None else {}
        made = {}
        with jax.set_mesh(model.mesh):
            for path, one in chosen.items():
                prune = jax.jit(functools.partial(self.pruned, one))
                made[path] = prune(weights[path], inputs=inputs.pop(path, None)).astype(weights[path].dtype)
        zeros = sum(int((w == 0).sum()) for w in made.values()) / sum(w.size for w in made.values())
        say(f"Prune by {self.by}: {len(made)} weights, {100 * zeros:.1f} % of them 0")
        return with_weights(model, made)

    def pruned(self, one: Facts, weight: jax.Array, inputs: Inputs | None) -> jax.Array:
        """One weight, with all that is stacked in it."""
        stack, inner, outer = parts(one, weight.shape)
        w_XIO = weight.astype(jnp.float32).reshape(math.prod(stack), math.prod(inner), math.prod(outer))
        flat = jax.tree.map(lambda a: a.reshape(len(w_XIO), *a.shape[len(stack) :]), inputs)
        if self.by == "sparsegpt":
            assert flat is not None
            return jax.lax.map(lambda x: self._made_good(*x), (w_XIO, flat.square_II)).reshape(weight.shape)
        size_XIO = jnp.abs(w_XIO)
        if flat is not None:
            size_XIO = size_XIO * jnp.sqrt(jnp.diagonal(flat.square_II, axis1=1, axis2=2))[..., None]
        return (w_XIO * jax.vmap(self._kept)(size_XIO)).reshape(weight.shape)

    def _kept(self, size_IO: jax.Array) -> jax.Array:
        """Bool: not the smallest of each group, or of each output's inputs."""
        inputs, outputs = size_IO.shape
        group = self.of or inputs
        size_GNO = size_IO.reshape(-1, group, outputs)
        rank_GNO = jnp.argsort(jnp.argsort(size_GNO, axis=1), axis=1)
        return (rank_GNO >= round(self.share * group)).reshape(inputs, outputs)

    def _made_good(self, w_IO: jax.Array, square_II: jax.Array) -> jax.Array:
        """Block by block: which, by w^2 over the diagonal; the error of each input is taken up by those that follow."""
        upper_II = inverse_factor(square_II, damping=0.01)
        inputs = len(w_IO)
        size = math.gcd(inputs, _BLOCK) if not self.of else math.lcm(self.of, math.gcd(inputs, _BLOCK))

        def block(number: jax.Array, left_IO: jax.Array) -> jax.Array:
            first = number * size
            own_BI = jax.lax.dynamic_slice_in_dim(upper_II, first, size)
            own_BB = jax.lax.dynamic_slice_in_dim(own_BI, first, size, axis=1)
            w_BO = jax.lax.dynamic_slice_in_dim(left_IO, first, size)
            kept_BO = self._kept(jnp.square(w_BO / jnp.diagonal(own_BB)[:, None]))

            def row(i: jax.Array, carried: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
                w_BO, error_BO = carried
                error_O = jnp.where(kept_BO[i], 0, w_BO[i]) / own_BB[i, i]
                later_B = jnp.where(jnp.arange(size) > i, own_BB[i], 0)
                return w_BO - later_B[:, None] * error_O, error_BO.at[i].set(error_O)

            w_BO, error_BO = jax.lax.fori_loop(0, size, row, (w_BO, jnp.zeros_like(w_BO)))
            later_BI = jnp.where(jnp.arange(inputs) >= first + size, own_BI, 0)
            left_IO = left_IO - jnp.matmul(later_BI.T, error_BO, precision=jax.lax.Precision.HIGHEST)
            return jax.lax.dynamic_update_slice_in_dim(left_IO, w_BO * kept_BO, first, axis=0)

        return jax.lax.fori_loop(0, inputs // size, block, w_IO)
