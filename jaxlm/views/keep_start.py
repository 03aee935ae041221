"""Everything is trained, and what it was at the start is kept. In: nothing. Out: a frozen copy beside the weights.

view=(KeepStart(),)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxlm.models.moved import Moved
from jaxlm.views.view import Facts, Tree, View


@dataclasses.dataclass(kw_only=True)
class KeepStart(View):
    """For objectives that compare with the model as it was, such as DPO (2305.18290); costs the weights once more, in
    float32 and sharded as they are. Adapters (`LoRA`) need no copy."""

    keeps_start: ClassVar[bool] = True

    def validate(self, where: str) -> None:
        """Nothing can be wrong."""

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """Nor here."""

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """All of it, twice."""
        return dict(params), {path: jnp.copy(array) for path, array in params.items()}

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """`Moved` values."""
        return {path: Moved(array, frozen[path]) for path, array in trained.items()}

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """As before."""
        return dict(facts)

    def frozen_facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """The same."""
        return dict(facts)
