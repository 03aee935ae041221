"""Weights in 8 or 4 bits. In: which, how, and what finds the codes. Out: `Quantised` values in their place."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.compress.calibration import Calibration, Inputs
from jaxlm.compress.step import Say, Step, with_weights
from jaxlm.errors import UserError, check_pattern
from jaxlm.infer.loaded import Loaded
from jaxlm.models import quantised
from jaxlm.models.paths import flatten
from jaxlm.models.quantised import Activations, Kind
from jaxlm.models.values import Value, is_value, whole
from jaxlm.views.view import Facts, facts, parts


@dataclasses.dataclass(kw_only=True)
class Rounding:
    """How the matrices and tables whose path begins with a match are held."""

    weights: str  # regular expression; of several entries the first that matches a path counts
    kind: Kind  # of the codes: int8, int4, nf4 (4 bits, spaced as a normal distribution), fp8 (e4m3)
    group: int  # inputs that share a scale, such as 32 or 128; 0: all inputs of an output
    low: bool  # also the lowest value of a group is kept (int8, int4), not only the largest absolute one
    activations: Activations  # what comes in: float, or rounded to int8 token by token (int8 without groups)

    def validate(self, where: str) -> None:
        """UserError for what does not go together."""
        check_pattern(self.weights, f"{where}.weights")
        if self.group < 0:
            raise UserError(
                f"{where}.group={self.group}: must be 0 (one scale for every output) or more, such as 32."
            )
        if self.low and self.kind not in ("int8", "int4"):
            raise UserError(
                f"{where}.low=True is for int8 and int4; {self.kind} is spaced around 0. Fix: low=False."
            )
        if self.activations == "int8" and (self.kind != "int8" or self.group or self.low):
            raise UserError(
                f'{where}.activations="int8" multiplies int8 by int8, with one scale for every output. Fix: '
                'kind="int8", group=0 and low=False, or activations="float".'
            )

    def blocks(self, path: str, one: Facts, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the scales. A table has scales of rows. UserError where the group does not divide it."""
        if is_table(one):
            return (shape[0], *self._groups(path, shape[1:]))
        stack, inner, outer = parts(one, shape)
        return (*stack, *self._groups(path, inner), *outer)

    def _groups(self, path: str, inner: tuple[int, ...]) -> tuple[int, ...]:
        """Of 0 one; of others so many of the last dimension, or of several."""
        left, found = self.group or math.prod(inner), []
        for size in reversed(inner):
            share = math.gcd(left, size)
            found.append(size // share)
            left //= share
            if share < size:
                break
        found += list(reversed(inner))[len(found) :]
        if left != 1:
            fitting = [n for n in (16, 32, 64, 128, 256) if math.prod(inner) % n == 0 and inner[-1] % n == 0]
            raise UserError(
                f"{path} has {math.prod(inner)} inputs ({' x '.join(map(str, inner))}), which groups of {self.group} "
                f"do not divide. Fix: a group of {', '.join(map(str, fitting)) or inner[-1]}, or 0."
            )
        return tuple(reversed(found))

    def nearest(self, path: str, one: Facts, weight: jax.Array) -> quantised.Quantised:
        """Rounded to the nearest."""
        return quantised.encode(
            weight, self.blocks(path, one, weight.shape), self.kind, self.activations, low=self.low
        )


def is_table(one: Facts) -> bool:
    """Whether its rows are looked up."""
    return one.axes[0] in ("vocab", "positions", "types")


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
        chosen = self.chosen(known)
        if twice := [path for path in chosen if is_value(weights[path])]:
            raise UserError(
                f"{model.stored.where} holds {twice[0]} compressed already; a second rounding would add its error to "
                "the first. Fix: compress the model that it was made of."
            )
        for path, rule in chosen.items():
            rule.blocks(path, known[path], weights[path].shape)

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """All weights that a rule names."""
        self.check(model)
        weights, known = flatten(model.params), facts(model.model)
        chosen = self.chosen(known)
        within = [path for path in chosen if not is_table(known[path]) and not path.startswith("heads/")]
        inputs = self._inputs(model, text, within)
        made: dict[str, Any] = {}
        with jax.set_mesh(model.mesh):
            for path, rule in chosen.items():
                finder = self.finder if path in inputs else Nearest()
                find = jax.jit(functools.partial(finder.found, path, known[path], rule=rule))
                made[path] = find(whole(weights[path]).astype(jnp.float32), inputs=inputs.pop(path, None))
        say(f"{type(self.finder).__name__}: {len(made)} weights, {_bytes(weights, made)}")
        return with_weights(model, made)

    def chosen(self, known: Mapping[str, Facts]) -> dict[str, Rounding]:
        """{path: rule}; UserError when a rule names nothing."""
        found = {}
        for path, one in known.items():
            rule = next((rule for rule in self.rules if re.match(rule.weights, path)), None)
            if rule is not None and one.inputs and "buckets" not in one.axes:
                found[path] = rule
        for rule in self.rules:
            if rule not in found.values():
                matrices = ", ".join(sorted(path for path, one in known.items() if one.inputs))
                raise UserError(
                    f"weights={rule.weights!r} names no matrix that is left. There are: {matrices}."
                )
        return found

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
