"""Weights in 8 or 4 bits. In: which, how, and what finds the codes. Out: `Quantised` values in their place."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.compress.calibration import Calibration, Inputs
from jaxlm.compress.step import Say, Step, with_weights
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.models.paths import flatten
from jaxlm.models.values import Value, is_value, whole
from jaxlm.views.rounding import Rounding, chosen, is_table
from jaxlm.views.view import Facts, facts


class Finder:
    """What finds the codes of a matrix: a keyword-only dataclass that derives from this."""

    @property
    def calibrated(self) -> bool:
        """Whether it needs activations."""
        return True

    def validate(self, where: str) -> None:
        """UserError for settings that cannot work."""

    def found(self, path: str, one: Facts, weight: jax.Array, rule: Rounding, inputs: Any) -> Value:
        """The value, for the matrix as it is and its `Inputs`; traced."""
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class Nearest(Finder):
    """Each weight by itself to the nearest code; needs no text."""

    def found(self, path: str, one: Facts, weight: jax.Array, rule: Rounding, inputs: Any) -> Value:
        """Whatever comes in."""
        return rule.nearest(path, one, weight)

    @property
    def calibrated(self) -> bool:
        """It does not."""
        return False


@dataclasses.dataclass(kw_only=True)
class Quantise(Step):
    """Matrices and tables as small codes with scales."""

    rules: tuple[Rounding, ...]  # which weights, and how each is held
    finder: Finder  # of matrices within blocks; tables and heads are rounded to the nearest

    def validate(self, where: str) -> None:
        """Rules and finder."""
        for number, rule in enumerate(self.rules):
            rule.validate(f"{where}.rules[{number}]")
        self.finder.validate(f"{where}.finder")

    @property
    def calibrated(self) -> bool:
        """As its finder."""
        return self.finder.calibrated

    def check(self, model: Loaded) -> None:
        """All errors before anything is computed."""
        weights, known = flatten(model.params), facts(model.model)
        by_path = chosen(self.rules, known)
        if twice := [path for path in by_path if is_value(weights[path])]:
            raise UserError(
                f"{model.stored.where} holds {twice[0]} compressed already; a second rounding would add its error to "
                "the first. Fix: compress the model that it was made of."
            )
        for path, rule in by_path.items():
            rule.blocks(path, known[path], weights[path].shape)

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """All weights that a rule names."""
        self.check(model)
        weights, known = flatten(model.params), facts(model.model)
        by_path = chosen(self.rules, known)
        within = [path for path in by_path if not is_table(known[path]) and not path.startswith("heads/")]
        inputs = self._inputs(model, text, within)
        made: dict[str, Any] = {}
        with jax.set_mesh(model.mesh):
            for path, rule in by_path.items():
                finder = self.finder if path in inputs else Nearest()
                find = jax.jit(functools.partial(finder.found, path, known[path], rule=rule))
                made[path] = find(whole(weights[path]).astype(jnp.float32), inputs=inputs.pop(path, None))
        say(f"{type(self.finder).__name__}: {len(made)} weights, {_bytes(weights, made)}")
        return with_weights(model, made)

    def _inputs(self, model: Loaded, text: Calibration | None, paths: list[str]) -> dict[str, Inputs]:
        if not self.calibrated:
            return {}
        assert text is not None
        return text.inputs(model, paths)


def _bytes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    old = sum(4 * math.prod(before[path].shape) for path in after)
    new = sum(size_of(value) for value in after.values())
    return f"{old / 1e6:,.1f} -> {new / 1e6:,.1f} MB"


def size_of(weight: Any) -> int:
    """Bytes of an array, or of a value as it is kept on disk."""
    leaves = jax.tree.leaves(weight)
    bits = lambda a: 4 if a.dtype in (jnp.int4, jnp.uint4) else 8 * a.dtype.itemsize
    return sum(math.prod(a.shape) * bits(a) for a in leaves) // 8
