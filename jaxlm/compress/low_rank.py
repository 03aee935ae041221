"""Matrices as the product of two thin ones. In: which, and how much of them stays. Out: `Factors` in their place.

By the singular values of the matrix, or of what it makes of the text (SVD-LLM: Wang et al., 2403.07378): with
X^T X = L L^T, the best W' of a rank for ||X (W - W')|| is L^-T times the truncated L^T W.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.compress.calibration import Calibration
from jaxlm.compress.choosing import damped
from jaxlm.compress.spectrum import Spectrum, least, ranks
from jaxlm.compress.step import Say, Step, named, with_weights
from jaxlm.errors import UserError, check_pattern
from jaxlm.infer.loaded import Loaded
from jaxlm.models.factors import Factors
from jaxlm.models.paths import flatten
from jaxlm.models.values import is_value
from jaxlm.views.view import Facts, parts


@dataclasses.dataclass(kw_only=True)
class LowRank(Step):
    """Published at 0.8 of the weights, Llama-7B's perplexity 5.68: 7.9 by activations, above 20,000 without."""

    weights: str  # regular expression: the matrices whose path begins with a match
    share: float  # of their bytes that stays; where it is spent is found: what carries most for its bytes
    activations: bool  # what counts is what a matrix makes of the text; False: its own numbers, without text
    damping: float  # added to the diagonal of X^T X, as a part of its mean

    def validate(self, where: str) -> None:
        """UserError for what is no part."""
        check_pattern(self.weights, f"{where}.weights")
        if not 0 < self.share < 1:
            raise UserError(f"{where}.share={self.share}: must be above 0 and below 1, such as 0.8.")
        if not 0 < self.damping <= 1:
            raise UserError(f"{where}.damping={self.damping}: must be above 0 and at most 1, such as 0.001.")

    @property
    def calibrated(self) -> bool:
        """Where activations count."""
        return self.activations

    def check(self, model: Loaded) -> None:
        """UserError when nothing is named, or the share is less than rank 1 takes."""
        weights, spectra = flatten(model.params), {}
        for path, one in named(model, self.weights).items():
            if is_value(weights[path]):
                raise UserError(f"{path} is compressed already. Fix: factors first, then rounding of others.")
            spectra[path] = _spectrum(one, weights[path], np.ones(1))
        size = sum(one.size for one in spectra.values())
        if least(spectra) > self.share * size:
            raise UserError(
                f"share={self.share}: rank 1 alone takes {least(spectra) / size:.3f} of these matrices. Fix: more."
            )

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """All singular values first, then ranks of all together."""
        self.check(model)
        weights, chosen = flatten(model.params), named(model, self.weights)
        inputs = text.inputs(model, list(chosen)) if self.activations and text is not None else {}
        factors, spectra = {}, {}
        with jax.set_mesh(model.mesh):
            for path, one in chosen.items():
                seen = inputs.pop(path, None)
                thin = jax.jit(functools.partial(self.thin, one))
                found = thin(weights[path], None if seen is None else seen.square_II)
                a_XIK, carried_XK, b_XKO = map(np.asarray, found)
                spectra[path] = _spectrum(one, weights[path], carried_XK.sum(0))
                factors[path] = a_XIK[..., : spectra[path].limit], b_XKO[:, : spectra[path].limit]
        found = ranks(spectra, int(self.share * sum(one.size for one in spectra.values())))
        say(_told(spectra, found))
        made = {}
        for path, rank in found.items():
            a_XIK, b_XKO = factors.pop(path)
            if rank <= spectra[path].limit:
                made[path] = _value(chosen[path], weights[path], a_XIK[..., :rank], b_XKO[:, :rank])
        return with_weights(model, made)

    def thin(self, one: Facts, weight: jax.Array, square_II: jax.Array | None) -> tuple[jax.Array, ...]:
        """(a_XIK, what each direction carries: 1 in sum, b_XKO) of one weight, X for all that is stacked in it."""
        stack, inner, outer = parts(one, weight.shape)
        w_XIO = weight.astype(jnp.float32).reshape(math.prod(stack), math.prod(inner), math.prod(outer))
        if square_II is None:
            return jax.lax.map(lambda w_IO: _scaled(jnp.linalg.svd(w_IO, full_matrices=False)), w_XIO)
        square_XII = square_II.reshape(len(w_XIO), *square_II.shape[-2:])
        return jax.lax.map(lambda each: self._whitened(*each), (w_XIO, square_XII))

    def _whitened(self, w_IO: jax.Array, square_II: jax.Array) -> tuple[jax.Array, ...]:
        """Inputs that never come, and matrices that the text does not pass, count as they are."""
        lower_II = jnp.linalg.cholesky(damped(square_II, self.damping))
        seen_IO = jnp.matmul(lower_II.T, w_IO, precision=jax.lax.Precision.HIGHEST)
        a_IK, carried_K, b_KO = _scaled(jnp.linalg.svd(seen_IO, full_matrices=False))
        return jax.scipy.linalg.solve_triangular(lower_II.T, a_IK), carried_K, b_KO


def _scaled(found: Any) -> tuple[jax.Array, ...]:
    """The singular values go into both sides, by their roots."""
    u_IK, s_K, v_KO = found
    root_K = jnp.sqrt(s_K)
    carried_K = jnp.square(s_K)
    return u_IK * root_K, carried_K / jnp.maximum(carried_K.sum(), 1e-30), v_KO * root_K[:, None]


def _spectrum(one: Facts, weight: jax.Array, carried_K: np.ndarray) -> Spectrum:
    stack, inner, outer = parts(one, weight.shape)
    return Spectrum(math.prod(inner), math.prod(outer), carried_K, math.prod(stack))


def _value(one: Facts, weight: jax.Array, a_XIK: np.ndarray, b_XKO: np.ndarray) -> Factors:
    stack, inner, outer = parts(one, weight.shape)
    a = jnp.asarray(a_XIK, weight.dtype).reshape(*stack, *inner, -1)
    b = jnp.asarray(b_XKO, weight.dtype).reshape(*stack, -1, *outer)
    return Factors(a, b, one.inputs)


def _told(spectra: dict[str, Spectrum], found: dict[str, int]) -> str:
    """Of every matrix its rank, and what that leaves out."""
    said = [
        f"  {path}: rank {rank} of {min(one.inputs, one.outputs)}, {100 * one.lost(rank):.1f} % lost"
        if (rank := found[path]) <= one.limit
        else f"  {path}: as it was"
        for path, one in spectra.items()
    ]
    after = sum(one.weights(found[path]) for path, one in spectra.items())
    before = sum(one.size for one in spectra.values())
    return "\n".join([f"LowRank: {len(found)} weights, {before:,} -> {after:,} numbers", *said])
