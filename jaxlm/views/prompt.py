"""Learnt context: everything is frozen, and what every text sees before itself is trained.

    view=(Prompt(tokens=20, also="heads/.*"),)      view=(Prefix(tokens=20),)

Both begin as other functions than the base: there is no context that changes nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.errors import UserError
from jaxlm.models.beside import Ahead
from jaxlm.models.prompted import Longer
from jaxlm.views.beside import Beside
from jaxlm.views.view import Facts, Tree, parts

TABLE = r"(embeddings/)?tokens/table$"
KEYS_VALUES = r"(.*/)?attention/w[kv]$"


@dataclasses.dataclass(kw_only=True)
class _Context(Beside):
    tokens: int  # how many are learnt; published: 10 to 200

    def validate(self, where: str) -> None:
        """A number that can work, patterns that are some."""
        super().validate(where)
        if not 0 < self.tokens < 2**14:
            raise UserError(f"{where}.tokens={self.tokens}: must be above 0 (usual: 10 to 100).")


@dataclasses.dataclass(kw_only=True)
class Prompt(_Context):
    """Vectors of tokens in front of every text (Lester et al., 2104.08691), each at first that of a token drawn.

    They take positions: rows must be that much shorter than the model's longest.
    """

    targets: str = TABLE  # regular expression: the table of tokens

    def trained(self, one: Facts) -> dict[str, Facts]:
        """Rows of the table."""
        return {"prompt": Facts(("positions", one.axes[1]), 1)}

    def start(self, one: Facts, weight: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """Rows of the table's first 5,000, drawn (published: of the 5,000 commonest tokens)."""
        return {"prompt": weight[jax.random.randint(key, (self.tokens,), 0, min(len(weight) // 2, 5000))]}

    def value(self, path: str, base: Any, own: Mapping[str, jax.Array], others: Mapping[str, Any]) -> Tree:
        """The table with more rows."""
        return {path: Longer(base, own["prompt"])}


@dataclasses.dataclass(kw_only=True)
class Prefix(_Context):
    """Keys and values in front of those of every layer's tokens (Li and Liang, 2101.00190), without positions.

    They are trained as they are: the MLP that the authors train them through is not here.
    """

    targets: str = (
        KEYS_VALUES  # regular expression: the projections of keys and values, both of every attention
    )

    def trained(self, one: Facts) -> dict[str, Facts]:
        """Of every layer."""
        stack, _, outer = parts(one, one.axes)
        return {"prefix": Facts((*stack, "positions", *outer), 1)}

    def start(self, one: Facts, weight: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """Normal with a deviation of 0.02."""
        stack, _, outer = parts(one, weight.shape)
        return {"prefix": 0.02 * jax.random.normal(key, (*stack, self.tokens, *outer), jnp.float32)}

    def value(self, path: str, base: Any, own: Mapping[str, jax.Array], others: Mapping[str, Any]) -> Tree:
        """The projection, with the rows ahead."""
        return {path: Ahead(base, own["prefix"])}
