"""A number for every text, or for two texts: a score of their likeness. In: rows of texts with a `Number`. Out: a loss.

Squared error of the score as it stands in the data, as transformers' models have it with num_labels=1.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Loss, Pair, Row, Shown, Vocabulary
from jaxlm.data.corpus.columns import Number
from jaxlm.objectives import reading, scores
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.labelled import Judged
from jaxlm.objectives.predictions import Predictions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberTargets:
    """A number for every item of a row."""

    first_BC: Array  # int32: place of the item's first token; 0 in unused slots
    numbers_BC: Array  # float32; 0 in unused slots
    weights_BC: Array  # float32: 1 where an item is real, else 0
    start_B: Array | None = None  # int32, see ItemTargets

    @classmethod
    def of(cls, row: Row, column: str, vocabulary: Vocabulary) -> "NumberTargets":
        """What the items of a row carry."""
        real = np.arange(len(row.first_C)) < row.segments_T.max(initial=0)
        return cls(
            first_BC=row.first_C,
            numbers_BC=np.where(real, row.of_items(column), 0.0).astype(np.float32),
            weights_BC=real.astype(np.float32),
            start_B=reading.start(vocabulary),
        )

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        real = np.flatnonzero(self.weights_BC[b] > 0).tolist()
        return Shown(notes={c + 1: f"{self.numbers_BC[b, c]:g}" for c in real})


@dataclasses.dataclass(kw_only=True)
class Regression(Judged):
    """One output on the features that a classification has."""

    learns: ClassVar[type] = Number
    problem_type: ClassVar[str] = "regression"

    @property
    def outputs(self) -> int:
        """The number."""
        return 1

    def targets(self, row: Row, vocabulary: Vocabulary) -> NumberTargets:
        """A number for every item."""
        return NumberTargets.of(row, self.column, vocabulary)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of items."""
        return {"number": scores.count(batch.targets.weights_BC)}

    def apart(self, one: Predictions, other: Predictions) -> dict[str, Pair]:
        """Squared difference."""
        away_BC = (one["classes"]() - other["classes"]())[..., 0]
        weights_BC = one["classes"].weights_BM
        return {"number": (jnp.where(weights_BC > 0, away_BC**2 * weights_BC, 0.0).sum(), weights_BC.sum())}

    def towards(
        self, said: Predictions, taught: Predictions, batch: Batch, apart: Divergence
    ) -> dict[str, Pair]:
        """Squared difference."""
        return self.apart(said, taught)

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `number`; measures `number_loss` (squared error), `number_error` (absolute)."""
        return errors(predictions["classes"]()[..., 0], batch.targets)


def errors(found_BC: Array, asked: Any) -> Loss:
    """Squared and absolute error of numbers against `NumberTargets`."""
    away_BC = jnp.where(asked.weights_BC > 0, found_BC.astype(jnp.float32) - asked.numbers_BC, 0.0)
    weight = asked.weights_BC.sum()
    squares, error = (away_BC**2).sum(), jnp.abs(away_BC).sum()
    return Loss(
        {"number": (squares, weight)}, {"number_loss": (squares, weight), "number_error": (error, weight)}
    )
