"""Some parameters are left as they are, the others are trained. In: patterns of paths, or their kind. Out: a view.

view=(Freeze(pattern="embeddings/.*"),)
view=(BitFit(norms="none", also="heads/.*"),)
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import jax

from jaxlm.errors import UserError, check_pattern
from jaxlm.views.view import Facts, Tree, View

_BIAS = r"(.*/)?(b|b[qkvo]|b_\w+|bias)"
_NORM = r"(.*/)?norm\w*/\w+"


class _Chosen(View):
    """A choice by path; nothing is added to the model."""

    def is_frozen(self, path: str) -> bool:
        """Whether the parameter is left as it is."""
        raise NotImplementedError

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """By the path; nothing is drawn."""
        frozen = {path: array for path, array in params.items() if self.is_frozen(path)}
        return {path: array for path, array in params.items() if path not in frozen}, frozen

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """Both."""
        return {**frozen, **trained}

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Of those that are left."""
        return {path: one for path, one in facts.items() if not self.is_frozen(path)}


@dataclasses.dataclass(kw_only=True)
class Freeze(_Chosen):
    """Howard and Ruder, 1801.06146, section 3.3, name it for transfer: only some layers learn."""

    pattern: str  # regular expression; frozen are the parameters whose path begins with a match

    def validate(self, where: str) -> None:
        """UserError for a pattern that is none."""
        check_pattern(self.pattern, f"{where}.pattern")

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when nothing, or everything, is frozen."""
        number = sum(self.is_frozen(path) for path in facts)
        if not 0 < number < len(facts):
            raise UserError(
                f"{where}.pattern={self.pattern!r} matches {number} of {len(facts)} parameters: it must leave some and "
                f"freeze some. Paths: {', '.join(sorted(facts)[:8])}, ..."
            )

    def is_frozen(self, path: str) -> bool:
        """By the pattern."""
        return re.match(self.pattern, path) is not None


@dataclasses.dataclass(kw_only=True)
class BitFit(_Chosen):
    """Biases alone are trained (Ben Zaken et al., 2106.10199), those of norms among them."""

    norms: Literal["none", "all"] = "none"  # all: the scales of norms are trained too
    also: str = ""  # regular expression: further parameters that are trained, such as a new head; empty: none

    def validate(self, where: str) -> None:
        """UserError for a pattern that is none."""
        check_pattern(self.also, f"{where}.also")

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when the model has no biases."""
        if not any(re.fullmatch(_BIAS if self.norms == "none" else _NORM, path) for path in facts):
            raise UserError(
                f"{where}: BitFit trains biases, and this model has none. Fix: BitFit(norms='all'), which trains the "
                "scales of its norms, or another view, such as LoRA."
            )

    def is_frozen(self, path: str) -> bool:
        """By the name of the parameter."""
        kinds = _BIAS if self.norms == "none" else f"{_BIAS}|{_NORM}"
        return not re.fullmatch(kinds, path) and not (self.also and re.match(self.also, path))
