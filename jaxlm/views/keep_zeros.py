"""Weights that are 0 at the start stay so: a pruned model is trained on. In: patterns of paths. Out: a view.

view=(KeepZeros(weights=MATRICES),)
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax

from jaxlm.errors import check_pattern
from jaxlm.views.view import Facts, Tree, View, check_some

_KEPT = "/kept"  # behind the path of a weight: where it is not 0


@dataclasses.dataclass(kw_only=True)
class KeepZeros(View):
    """All others are trained; what becomes 0 later may move again. Costs a byte a weight."""

    weights: str  # regular expression: the matrices whose path begins with a match

    def validate(self, where: str) -> None:
        """A pattern that is one."""
        check_pattern(self.weights, f"{where}.weights")

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when it names no matrix."""
        check_some(facts, self._named, f"{where}.weights", self.weights)

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """All of it, and where it is not 0."""
        named = [path for path in params if self._named(path, facts[path])]
        return dict(params), {path + _KEPT: params[path] != 0 for path in named}

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """Zeros where they were."""
        kept = {name.removesuffix(_KEPT): mask for name, mask in frozen.items()}
        return {path: array * kept[path] if path in kept else array for path, array in trained.items()}

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """As before."""
        return dict(facts)

    def frozen_facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Laid out as their weights."""
        return {path + _KEPT: one for path, one in facts.items() if self._named(path, one)}

    def _named(self, path: str, one: Facts) -> bool:
        return one.inputs > 0 and re.match(self.weights, path) is not None
