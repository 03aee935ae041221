"""Low-rank adaptation (LoRA: Hu et al., 2106.09685; scaled by rank: Kalajdzievski, 2312.03732). Everything is frozen,
and beside chosen matrices two thin ones are trained.

    view=(LoRA(rank=8, alpha=16.0, scaling="sqrt", targets=MATRICES, also=""),)
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxlm.errors import UserError
from jaxlm.models.low_rank import LowRank
from jaxlm.views.freeze import check_pattern
from jaxlm.views.view import Facts, Tree

# Of attention and MLP, in every family.
MATRICES = r"(.*/)?(attention|cross_attention|mlp)/w"
_A, _B = "/lora_a", "/lora_b"  # behind the path of a matrix


@dataclasses.dataclass(kw_only=True)
class LoRA:
    """Published: rank 4 to 64, alpha about twice the rank, scaling "rank" (2106.09685) or "sqrt" (2312.03732)."""

    rank: int  # columns of the thin matrices; published: 4 to 64
    alpha: float  # what is added is scaled by alpha / rank, or alpha / sqrt(rank)
    scaling: Literal["rank", "sqrt"]  # what alpha is divided by: the rank, or its square root
    targets: str = MATRICES  # regular expression: the matrices whose path begins with a match
    also: str = (
        ""  # regular expression: parameters that are trained as they are, such as a new head; empty: none
    )

    @property
    def keeps_start(self) -> bool:
        """Whether what it trains stands beside weights that stay."""
        return not self.also

    def validate(self, where: str) -> None:
        """Numbers that can work, patterns that are some."""
        for name in ("rank", "alpha"):
            if not 0 < getattr(self, name) < 2**16:
                raise UserError(f"{where}.{name}={getattr(self, name)}: must be above 0 (usual: 8 and 16.0).")
        check_pattern(self.targets, f"{where}.targets")
        check_pattern(self.also, f"{where}.also")

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when no matrix is a target."""
        if not any(self._is_target(path, one) for path, one in facts.items()):
            known = ", ".join(sorted(path for path, one in facts.items() if one.inputs))
            raise UserError(f"{where}.targets={self.targets!r} matches no matrix. There are: {known}.")

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """a uniform within 1/sqrt(inputs), as the published code draws it; b zero, so that nothing changes yet."""
        trained, frozen = {}, {}
        for number, (path, array) in enumerate(sorted(params.items())):
            if self._is_also(path):
                trained[path] = array
                continue
            frozen[path] = array
            if self._is_target(path, one := facts[path]):
                stack, inner, outer = _parts(one, array.shape)
                bound = math.prod(inner) ** -0.5
                shape, drawn = (*stack, *inner, self.rank), jax.random.fold_in(key, number)
                trained[path + _A] = jax.random.uniform(drawn, shape, jnp.float32, -bound, bound)
                trained[path + _B] = jnp.zeros((*stack, self.rank, *outer), jnp.float32)
        return trained, frozen

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """Targets become `LowRank` values."""
        scale = self.alpha / (self.rank**0.5 if self.scaling == "sqrt" else self.rank)
        merged = dict(frozen)
        for path, array in trained.items():
            if path.endswith(_A):
                base = path.removesuffix(_A)
                merged[base] = LowRank(frozen[base], array, trained[base + _B], scale)
            elif not path.endswith(_B):
                merged[path] = array
        return merged

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Of the thin matrices and of what is trained as it is."""
        found = {}
        for path, one in facts.items():
            if self._is_also(path):
                found[path] = one
            elif self._is_target(path, one):
                stack, inner, outer = _parts(one, one.axes)
                found[path + _A] = Facts((*stack, *inner, "rank"), len(inner))
                found[path + _B] = Facts((*stack, "rank", *outer), 1)
        return found

    def _is_target(self, path: str, one: Facts) -> bool:
        return one.inputs > 0 and not self._is_also(path) and re.match(self.targets, path) is not None

    def _is_also(self, path: str) -> bool:
        return bool(self.also) and re.match(self.also, path) is not None


def _parts(one: Facts, what: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Of axes or a shape: what is stacked, what goes in, what comes out."""
    first = 1 if one.axes[0] == "layers" else 0
    return what[:first], what[first : first + one.inputs], what[first + one.inputs :]
