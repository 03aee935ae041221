"""Some parameters are left as they are. In: a pattern of paths. Out: the others are trained.

view=(Freeze(pattern="embeddings/.*"),)
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax

from jaxlm.errors import UserError
from jaxlm.views.view import Facts, Tree


@dataclasses.dataclass(kw_only=True)
class Freeze:
    """Howard and Ruder, 1801.06146, section 3.3, name it for transfer: only some layers learn."""

    pattern: str  # regular expression; frozen are the parameters whose path begins with a match

    def validate(self, where: str) -> None:
        """UserError for a pattern that is none."""
        check_pattern(self.pattern, f"{where}.pattern")

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when nothing, or everything, is frozen."""
        number = sum(self._is_frozen(path) for path in facts)
        if not 0 < number < len(facts):
            raise UserError(
                f"{where}.pattern={self.pattern!r} matches {number} of {len(facts)} parameters: it must leave some and "
                f"freeze some. Paths: {', '.join(sorted(facts)[:8])}, ..."
            )

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """By the pattern; nothing is drawn."""
        frozen = {path: array for path, array in params.items() if self._is_frozen(path)}
        return {path: array for path, array in params.items() if path not in frozen}, frozen

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """Both."""
        return {**frozen, **trained}

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Of those that are left."""
        return {path: one for path, one in facts.items() if not self._is_frozen(path)}

    def _is_frozen(self, path: str) -> bool:
        return re.match(self.pattern, path) is not None


def check_pattern(pattern: str, where: str) -> None:
    """UserError unless it is a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"{where}={pattern!r} is not a regular expression: {error}.") from error
