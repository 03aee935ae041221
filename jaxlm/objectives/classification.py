"""Classes of texts: one label of a few for every text, or for texts that belong together.

In: rows packed with texts, each `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, that carry a label. Out: one loss. Every
text is judged by its own tokens and sees no other, so packing several into a row changes nothing.
"""

import dataclasses
from collections.abc import Mapping

from jaxlm.batch import Array, Batch, Row, Vocabulary
from jaxlm.objectives.labelled import Judged, Labelled, one_label
from jaxlm.objectives.targets import ItemTargets


@dataclasses.dataclass(kw_only=True)
class Classification(Judged, Labelled):
    """As Devlin et al., 1810.04805, section 4.1, fine-tune BERT: dense on the pooled [CLS], cross-entropy."""

    @property
    def outputs(self) -> int:
        """A logit for each label."""
        return len(self.labels)

    @property
    def class_names(self) -> Mapping[str, tuple[str, ...]]:
        """The labels."""
        return {"classes": self.labels}

    def targets(self, row: Row, vocabulary: Vocabulary) -> ItemTargets:
        """A label for every item."""
        return one_label(row, self.column, vocabulary)

    def right_classes(self, batch: Batch) -> dict[str, tuple[Array, Array]]:
        """The label of every item."""
        return {"classes": (batch.targets.labels_BC, batch.targets.weights_BC)}
