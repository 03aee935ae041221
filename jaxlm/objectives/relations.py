"""How two marked parts of a text are related: entity markers. In: rows of texts with two columns of spans. Out: a loss.

The text has markers around the two, `[E1] head [/E1] ... [E2] tail [/E2]` (`data.corpus.steps.MarkSpans`), and the
label is read off the features of both first markers, as Baldini Soares et al., 1906.03158, have it (entity start).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Kind, Row, Shown, Vocabulary
from jaxlm.data.corpus.spans import Spans
from jaxlm.data.corpus.steps import MarkSpans
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head, Relate
from jaxlm.objectives import reading
from jaxlm.objectives.labelled import Labelled, one_label
from jaxlm.objectives.predictions import Logits, Predictions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationTargets:
    """Two places and a label for every item of a row."""

    places_BC2: (
        Array  # int32: of the first markers of the two; of one that was cut off, the item's first token
    )
    labels_BC: Array  # int32; 0 in unused slots
    weights_BC: Array  # float32: 1 where an item is real, else 0

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        real = np.flatnonzero(self.weights_BC[b] > 0).tolist()
        said = lambda c: f"label {int(self.labels_BC[b, c])} of {self.places_BC2[b, c].tolist()}"
        return Shown(notes={c + 1: said(c) for c in real})


@dataclasses.dataclass(kw_only=True)
class Relations(Labelled):
    """Dense on the features of both first markers, cross-entropy; the direction is part of the label."""

    parts: tuple[str, str]  # columns of spans, one each: head and tail, as data.steps marks them

    @property
    def takes(self) -> tuple[Kind, ...]:
        """What has one feature for every token of a text."""
        return ("encoder", "decoder")

    @property
    def carried(self) -> tuple[str, ...]:
        """The spans, too."""
        return (self.column, *self.parts)

    def check_columns(self, columns: Sequence[Any]) -> None:
        """UserError, too, where there are no spans of that name."""
        super().check_columns(columns)
        known = [one.field for one in columns if isinstance(one, Spans)]
        for name in self.parts:
            if name not in known:
                raise UserError(
                    f"config.objective.parts={self.parts}: data.columns has no Spans {name!r} (it has "
                    f'{", ".join(known) or "none"}). Fix: "--config.data.columns=(Label(field={self.column!r}), '
                    f"Spans(field={self.parts[0]!r}, text='text'), Spans(field={self.parts[1]!r}, text='text'))\"."
                )

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Of two features together."""
        return {"relations": Relate(classes=len(self.labels))}

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Whole texts with their markers, cut to `max_tokens`."""
        return self.whole(shards, vocabulary, asked, unit="documents", texts=1)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """The row as it is; nothing is drawn."""
        items = one_label(row, self.column, vocabulary)
        places = np.repeat(row.first_C[:, None], 2, axis=1)
        for side, name in enumerate(self.parts):
            begins = np.flatnonzero(row.of_tokens(name) % 2 == 1)
            begins = begins[row.of_tokens(name)[begins] > 0]
            places[row.segments_T[begins] - 1, side] = begins
        targets = RelationTargets(
            places_BC2=places.astype(np.int32), labels_BC=items.labels_BC, weights_BC=items.weights_BC
        )
        return dataclasses.replace(reading.of_row(row), targets=targets)

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`relations` of every item."""
        return judge(model, batch, key)

    def right_classes(self, batch: Batch) -> dict[str, tuple[Array, Array]]:
        """That of every item."""
        return {"relations": (batch.targets.labels_BC, batch.targets.weights_BC)}

    def marks(self, steps: Sequence[Any]) -> MarkSpans:
        """The step of a run's data that marks the two. UserError for none."""
        found = next((one for one in steps if isinstance(one, MarkSpans) and one.labels == self.parts), None)
        if found is None:
            raise UserError(
                f'config.data.steps marks no {" and ".join(self.parts)}. Fix: "--config.data.steps=(MarkSpans(labels='
                f"{self.parts}, markers=('[E1]', '[/E1]', '[E2]', '[/E2]')),)\"."
            )
        return found


def judge(model: Any, batch: Batch, key: Array | None) -> Predictions:
    """`relations` of every item of a batch with `RelationTargets`."""
    asked = batch.targets
    rows, items, _ = asked.places_BC2.shape
    encoded = model.encode(batch, key, at_BM=asked.places_BC2.reshape(rows, items * 2))
    x_BCD = encoded.x_BTD.reshape(rows, items, -1)
    head = lambda model, x_BCD: model.heads["relations"](jnp.asarray(x_BCD), key)
    return Predictions.of(encoded, relations=Logits(x_BCD, model, head, asked.weights_BC))
