"""What most objectives ask: ids of tokens, or a label for every item. In: arrays. Out: pytrees that show themselves.

Slots that ask nothing have weight 0 and contribute exactly 0. Objectives with other questions bring their own class.
"""

import dataclasses

import jax
import numpy as np

from jaxlm.batch import Array, Shown


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenTargets:
    """Tokens to predict. Without `places_BM` every position has its target in place, and M is T."""

    ids_BM: Array  # int32; 0 in unused slots
    weights_BM: Array  # float32: 1 where a target is real, else 0
    places_BM: Array | None = None  # int32: where in the row; 0 in unused slots

    @property
    def tokens(self) -> "TokenTargets":
        """Itself: what classes that hold more than tokens have as a field."""
        return self

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        slots = np.flatnonzero(self.weights_BM[b] > 0)
        places = slots if self.places_BM is None else self.places_BM[b][slots]
        wanted = dict(zip(places.tolist(), self.ids_BM[b][slots].tolist(), strict=True))
        return Shown(wanted=wanted, in_place=self.places_BM is None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemTargets:
    """A label for every item of a row."""

    first_BC: Array  # int32: place of the item's first token ([CLS]); 0 in unused slots
    labels_BC: Array  # int32; 0 in unused slots
    weights_BC: Array  # float32: 1 where an item is real, else 0
    start_B: Array | None = None  # int32: what an encoder-decoder's decoder begins with, where it may be one

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        real = np.flatnonzero(self.weights_BC[b] > 0).tolist()
        return Shown(notes={c + 1: f"label {int(self.labels_BC[b, c])}" for c in real})
