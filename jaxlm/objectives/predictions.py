"""What a model says of a batch, before anything is reduced. In: features and heads. Out: `Predictions`.

Between `predict` and `score` of an objective: whoever wants more of an objective than its loss (a wrapper that compares
two passes, a teacher, an evaluator, calibration) reads these. The logits of a vocabulary are made when they are asked
for, so that a loss that goes through them in chunks never holds them all.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxlm.batch import Array, Pair
from jaxlm.models.encoded import Encoded


@dataclasses.dataclass(frozen=True)
class Logits:
    """What a head says at the slots that an objective asks about; lives within one trace."""

    x_BMD: Array  # features at the slots
    model: Any  # bound; an argument of the head, since on a mesh a head's weights are gathered by themselves
    head: Callable[
        [Any, Array], Array
    ]  # (model, [B, any number of slots, D]) -> float32 logits, the classes last
    weights_BM: Array  # float32: 1 where a slot is real, else 0

    def __call__(self) -> Array:
        """All of them."""
        return self.head(self.model, self.x_BMD)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Of one pass, by the names of the objective's terms."""

    outputs: Mapping[str, Any]  # `Logits`, or arrays of another kind (embeddings)
    terms: Mapping[str, Pair] = dataclasses.field(
        default_factory=dict
    )  # of the model itself, see Encoded.terms
    layers: Any = None  # what was asked of them, see models.observed

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]

    @classmethod
    def of(cls, encoded: Encoded, **outputs: Any) -> "Predictions":
        """What was read off these features."""
        return cls(outputs, encoded.terms, encoded.layers)
