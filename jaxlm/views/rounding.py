"""Weights in few bits: how they are held, and training that sees them so. In: patterns of paths. Out: scales, a view.

view=(QuantisationAware(rules=(Rounding(weights=MATRICES, kind="int4", group=32, low=True, activations="float"),)),)

What was trained so is rounded by `jaxlm compress` with the same rules, to the numbers that training saw.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.errors import UserError, check_pattern
from jaxlm.models import quantised
from jaxlm.models.quantised import Activations, Kind
from jaxlm.models.straight import StraightThrough
from jaxlm.views.view import Facts, Tree, View, matrices, parts

_BLOCKS = "/blocks"  # behind the path of a weight: what shape its scales have


@dataclasses.dataclass(kw_only=True)
class Rounding:
    """How the matrices and tables whose path begins with a match are held."""

    weights: str  # regular expression; of several entries the first that matches a path counts
    kind: Kind  # of the codes: int8, int4, nf4 (4 bits, spaced as a normal distribution), fp8 (e4m3)
    group: int  # inputs that share a scale, such as 32 or 128; 0: all inputs of an output
    low: bool  # also the lowest value of a group is kept (int8, int4), not only the largest absolute one
    activations: Activations  # what comes in: float, or rounded by token to int8 or int16 (int8, no groups)

    def validate(self, where: str) -> None:
        """UserError for what does not go together."""
        check_pattern(self.weights, f"{where}.weights")
        if self.group < 0:
            raise UserError(
                f"{where}.group={self.group}: must be 0 (a scale for every output) or more, such as 32."
            )
        if self.low and self.kind not in ("int8", "int4"):
            raise UserError(
                f"{where}.low=True is for int8 and int4; {self.kind} is spaced around 0. Fix: low=False."
            )
        if self.activations != "float" and (self.kind != "int8" or self.group or self.low):
            raise UserError(
                f'{where}.activations="{self.activations}" multiplies int8 by int8, with one scale for every output. '
                'Fix: kind="int8", group=0 and low=False, or activations="float".'
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


def chosen(rules: Sequence[Rounding], known: Mapping[str, Facts]) -> dict[str, Rounding]:
    """{path: rule} of matrices and tables. UserError when a rule names nothing."""
    found = {}
    for path, one in known.items():
        rule = next((rule for rule in rules if re.match(rule.weights, path)), None)
        if rule is not None and one.inputs and "buckets" not in one.axes:
            found[path] = rule
    for rule in rules:
        if rule not in found.values():
            raise UserError(
                f"weights={rule.weights!r} names no matrix that is left. There are: {matrices(known)}."
            )
    return found


@dataclasses.dataclass(kw_only=True)
class QuantisationAware(View):
    """All weights are trained; those that a rule names are read rounded (Jacob et al., 1712.05877).

    Gradients pass as if they were not (straight-through: Bengio et al., 1308.3432).
    """

    rules: tuple[Rounding, ...]  # which weights, and how each is held

    def validate(self, where: str) -> None:
        """The rules."""
        for number, rule in enumerate(self.rules):
            rule.validate(f"{where}.rules[{number}]")

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when a rule names nothing."""
        chosen(self.rules, facts)

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """All of it is trained; zeros beside it have the shapes of scales. UserError where groups do not divide."""
        rules = chosen(self.rules, facts)
        blocks = {path: rule.blocks(path, facts[path], params[path].shape) for path, rule in rules.items()}
        return dict(params), {path + _BLOCKS: jnp.zeros(shape, jnp.int8) for path, shape in blocks.items()}

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """`StraightThrough` values."""
        merged = dict(trained)
        for name, zeros in frozen.items():
            path = name.removesuffix(_BLOCKS)
            rule = next(rule for rule in self.rules if re.match(rule.weights, path))
            how = {"kind": rule.kind, "low": rule.low, "activations": rule.activations}
            merged[path] = StraightThrough(trained[path], zeros.shape, **how)
        return merged

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """As before."""
        return dict(facts)

    def frozen_facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Whole on every device: they are small."""
        return {
            path + _BLOCKS: Facts((None,) * len(facts[path].axes), 0) for path in chosen(self.rules, facts)
        }
