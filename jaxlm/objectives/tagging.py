"""A tag for every word of a text: entities in BIO tags, or a part of speech for each.

In: rows packed with texts that carry a column of spans. Out: one loss, at the tokens that begin a word or a part of one
(a continuation such as ##ing is not asked). A text sees no other, so packing several into a row changes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from jaxlm.batch import NONE, Array, Batch, Kind, Row, Shown, Vocabulary
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head, Tag
from jaxlm.objectives.labelled import Labelled
from jaxlm.objectives.predictions import Logits, Predictions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TagTargets:
    """A tag for every token."""

    tags_BT: Array  # int32; 0 where nothing is asked
    weights_BT: Array  # float32: 1 where a tag is asked, else 0

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays: the tags that are asked, in order."""
        return Shown(notes={1: "tags " + " ".join(map(str, self.tags_BT[b][self.weights_BT[b] > 0]))})


@dataclasses.dataclass(kw_only=True)
class Tagging(Labelled):
    """As Devlin et al., 1810.04805, section 5.3, tag with BERT: dense on every word's first token, cross-entropy."""

    fewest_labels: ClassVar[int] = 1

    # bio: spans of words, tags O, B-x, I-x; words: each word has one of the labels
    scheme: Literal["bio", "words"]

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the classes in their order: of bio O, B-x, I-x, ...; of words the labels."""
        if self.scheme == "words":
            return self.labels
        return ("O", *(f"{side}-{label}" for label in self.labels for side in "BI"))

    @property
    def takes(self) -> tuple[Kind, ...]:
        """What has one feature for every token of a text."""
        return ("encoder", "decoder")

    @property
    def class_names(self) -> Mapping[str, tuple[str, ...]]:
        """The tags."""
        return {"tags": self.tags}

    def check_columns(self, columns: Sequence[Any]) -> None:
        """The scheme of the column must be this one; spans of characters are as good as BIO tags."""
        found = next((one for one in columns if one.field == self.column), None)
        scheme = getattr(found, "scheme", "bio")
        if found is not None and scheme != self.scheme:
            raise UserError(
                f'config.objective.scheme="{self.scheme}", and the column "{self.column}" has scheme="{scheme}". Fix: '
                f"--config.objective.scheme={scheme}."
            )

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Classes of every token, as transformers' ...ForTokenClassification has them in every family."""
        return {"tags": Tag(classes=len(self.tags))}

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Whole texts, cut to `max_tokens`; words behind that have no tags."""
        return self.whole(shards, vocabulary, asked, unit="documents", texts=1)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """The row as it is; nothing is drawn."""
        values = row.of_tokens(self.column)
        asked = (values != NONE) & ~vocabulary.continues_V[row.tokens_T]
        tags = values if self.scheme == "bio" else (values - 1) // 2
        asked &= tags >= 0
        return Batch(
            tokens_BT=row.tokens_T,
            segments_BT=row.segments_T,
            positions_BT=row.positions_T,
            types_BT=np.zeros_like(row.texts_T),
            targets=TagTargets(
                tags_BT=np.where(asked, tags, 0).astype(np.int32), weights_BT=asked.astype(np.float32)
            ),
        )

    def right_classes(self, batch: Batch) -> dict[str, tuple[Array, Array]]:
        """The tag of every token that is asked."""
        return {"tags": (batch.targets.tags_BT, batch.targets.weights_BT)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`tags` at every token."""
        encoded = model.encode(batch, key)
        head = lambda model, x_BTD: model.heads["tags"](x_BTD, key)
        return Predictions.of(encoded, tags=Logits(encoded.x_BTD, model, head, batch.targets.weights_BT))
