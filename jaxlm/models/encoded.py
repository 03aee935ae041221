"""What a model hands on beside its features: `Encoded`, and the `Extras` that a block adds to it.

In: features and what the blocks returned. Out: one value that objectives read. Guaranteed: a model whose blocks return
nothing but features has no terms and no layers.
"""

import dataclasses
from typing import Any

import jax

from jaxlm.batch import Pair


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Extras:
    """What one block returns beside x_BTD; stacked over the layers, every leaf has L in front."""

    # Terms of the loss as (sum, weight), such as the balance of experts: each layer's is a mean of its own
    terms: dict[str, Pair] = dataclasses.field(default_factory=dict)
    sums: Any = None  # over the batch, of anything: statistics of a router
    values: Any = None  # of every row, anything else: attributions, hidden states


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """What `encode` returns."""

    x_BTD: (
        jax.Array
    )  # features, in the dtype of the computation; x_BMD where `encode` was given places `at_BM`
    terms: dict[str, Pair] = dataclasses.field(
        default_factory=dict
    )  # of all layers; the step adds them to the loss
    sums: Any = None  # `Extras.sums` of every layer, leaves [L, ...]
    layers: Any = None  # `Extras.values` of every layer, leaves [L, ...]

    @classmethod
    def of(cls, x_BTD: jax.Array, *extras: Extras) -> "Encoded":
        """Features, with the extras of one stack of blocks or of several that follow each other."""
        terms: dict[str, Pair] = {}
        for part in extras:
            for name, (sums_L, weights_L) in part.terms.items():
                total, weight = terms.get(name, (0.0, 0.0))
                terms[name] = (total + sums_L.sum(), weight + weights_L.sum())
        sums, values = ([part.sums for part in extras], [part.values for part in extras])
        return cls(x_BTD=x_BTD, terms=terms, sums=_known(sums), layers=_known(values))


def _known(parts: list[Any]) -> Any:
    """Of several stacks a tuple; None where there is nothing."""
    found = [part for part in parts if part is not None]
    return found[0] if len(found) == 1 else tuple(found) or None
