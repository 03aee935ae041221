"""What most views are: everything is frozen, and beside chosen weights a little is trained. A method derives from it.

In: which weights, and how the frozen ones are held. Out: a `View`. Guaranteed: the frozen weight is used as it is held,
and no gradient of it is formed.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp

from jaxlm.errors import check_pattern
from jaxlm.models.quantised import Kind, Quantised
from jaxlm.models.values import whole
from jaxlm.views.rounding import Rounding
from jaxlm.views.view import Facts, Tree, View, check_some, parts

# Of attention and MLP, in every family.
MATRICES = r"(.*/)?(attention|cross_attention|mlp)/w"
Held = Literal["float32", "bfloat16", "int8", "int4", "nf4"]
# Inputs that share a scale: the first that fits; none: all of an output
_GROUPS = {"int8": (), "int4": (64, 32, 16), "nf4": (64, 32, 16)}
_SCALE = "/scale"  # beside the codes, whose kind stands behind the path of a weight that is held so


@dataclasses.dataclass(kw_only=True)
class Beside(View):
    """Matrices that are `targets` get something of the method's beside them, `also` is trained as it is."""

    targets: str = MATRICES  # regular expression: the matrices whose path begins with a match
    also: str = (
        ""  # regular expression: parameters that are trained as they are, such as a new head; empty: none
    )
    # how frozen matrices are held; as codes those of attention and MLP: int8 with a scale for every output, int4 and
    # nf4 (QLoRA's: 2305.14314) with one for 64 inputs of it; others bfloat16
    frozen: Held = "float32"

    def trained(self, one: Facts) -> dict[str, Facts]:
        """By name, of what stands beside a target."""
        raise NotImplementedError

    def start(self, one: Facts, weight: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """What `trained` names, before the first step: the function is then still that of the base."""
        raise NotImplementedError

    def value(self, path: str, base: Any, own: Mapping[str, jax.Array], others: Mapping[str, Any]) -> Tree:
        """What the model reads in place of a target, and of its bias if that changes; `others`: all that is frozen."""
        raise NotImplementedError

    def validate(self, where: str) -> None:
        """Patterns that are some."""
        check_pattern(self.targets, f"{where}.targets")
        check_pattern(self.also, f"{where}.also")

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when no matrix is a target."""
        check_some(facts, self._is_target, f"{where}.targets", self.targets)

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """What stands beside the targets is drawn with a key of its own for every path."""
        trained, frozen = {}, {}
        for number, (path, array) in enumerate(sorted(params.items())):
            if self._is_also(path):
                trained[path] = array
                continue
            held = self._held(path, facts[path], array)
            frozen |= held
            if self._is_target(path, facts[path]):
                drawn, seen = jax.random.fold_in(key, number), whole(_restored(held)[path])
                own = self.start(facts[path], seen.astype(jnp.float32), drawn)
                trained |= {f"{path}/{name}": part for name, part in own.items()}
        return trained, frozen

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """Targets become values."""
        base = _restored(frozen)
        merged, own = dict(base), {}
        for path, array in trained.items():
            target, _, name = path.rpartition("/")
            if target in base:
                own.setdefault(target, {})[name] = array
            else:
                merged[path] = array
        for target, one in own.items():
            merged |= self.value(target, base[target], one, base)
        return merged

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Of what stands beside the targets and of what is trained as it is."""
        found = {}
        for path, one in facts.items():
            if self._is_also(path):
                found[path] = one
            elif self._is_target(path, one):
                found |= {f"{path}/{name}": part for name, part in self.trained(one).items()}
        return found

    def frozen_facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """As it is held."""
        found = {}
        for path, one in facts.items():
            if self._is_also(path):
                continue
            how = self._as(path, one)
            if how in _GROUPS:
                stack, inner, outer = parts(one, one.axes)
                found[f"{path}/{how}"] = one
                found[path + _SCALE] = Facts((*stack, *(None for _ in inner), *outer), 0)
            else:
                found[path] = one
        return found

    def _as(self, path: str, one: Facts) -> Held:
        if self.frozen == "float32" or not one.inputs:
            return "float32"
        return self.frozen if re.match(MATRICES, path) else "bfloat16"

    def _held(self, path: str, one: Facts, array: jax.Array) -> Tree:
        """How a weight is stored."""
        how = self._as(path, one)
        if how not in _GROUPS:
            return {path: array.astype(how)}
        fits = lambda group: (
            math.prod(inner) % group == 0 and (inner[-1] % group == 0 or group % inner[-1] == 0)
        )
        inner = parts(one, array.shape)[1]
        group = next(filter(fits, _GROUPS[how]), 0)
        rule = Rounding(weights="", kind=cast(Kind, how), group=group, low=False, activations="float")
        held = rule.nearest(path, one, array)
        return {f"{path}/{how}": held.codes, path + _SCALE: held.scale}

    def _is_target(self, path: str, one: Facts) -> bool:
        return one.inputs > 0 and not self._is_also(path) and re.match(self.targets, path) is not None

    def _is_also(self, path: str) -> bool:
        return bool(self.also) and re.match(self.also, path) is not None


def _restored(frozen: Mapping[str, Any]) -> Tree:
    """Under the model's own paths: what is held as codes is a value."""
    found = {}
    for path, array in frozen.items():
        own, _, kind = path.rpartition("/")
        if kind in _GROUPS:
            found[own] = Quantised(array, frozen[own + _SCALE], None, "float")
        elif not (path.endswith(_SCALE) and any(f"{own}/{kind}" in frozen for kind in _GROUPS)):
            found[path] = array
    return found
