"""What a Hugging Face folder was fine-tuned for. In: a `Loaded` without a run. Out: the task of its head, or None.

Names of classes are those of `id2label` in its config.json; the texts and the right answers of a table stand in the
columns `text` and `label`, or `tokens` and `tags`, or `question`, `context` and `answers`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus.columns import Answers, Label
from jaxlm.data.corpus.spans import Tags
from jaxlm.infer.loaded import Loaded
from jaxlm.models.roberta import Roberta
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.question_answering import QuestionAnswering
from jaxlm.objectives.tagging import Tagging
from jaxlm.tasks.classification import Classifying
from jaxlm.tasks.question_answering import Answering
from jaxlm.tasks.tagging import Finding
from jaxlm.tasks.task import Item, Trained


def of(model: Loaded) -> Trained | None:
    """By the one head that it has for classes."""
    names = model.stored.class_names()
    if labels := names.get("classes"):
        return _classifier(model, labels)
    if tags := names.get("tags"):
        return _tagger(model, tags)
    return _answering(model) if "span" in model.stored.heads else None


def _classifier(model: Loaded, labels: tuple[str, ...]) -> Trained:
    objective = Classification(
        column="label",
        labels=labels,
        texts=1,
        pooling="own",
        max_tokens=model.row_length - 2,
        items_per_row=1,
    )
    return Classifying(model, _data("text", Label(field="label")), objective)


def _tagger(model: Loaded, tags: tuple[str, ...]) -> Trained:
    bio = "O" in tags and all(tag == "O" or tag[:2] in ("B-", "I-") for tag in tags)
    labels = tuple(sorted({tag[2:] for tag in tags} - {""})) if bio else tags
    scheme = "bio" if bio else "words"
    objective = Tagging(
        column="tags", labels=labels, scheme=scheme, max_tokens=model.row_length - 2, items_per_row=1
    )
    column = Tags(field="tags", text="tokens", between=" ", scheme=scheme)
    return _Reordered(model, _data("tokens", column), objective, tags)


def _answering(model: Loaded) -> Trained:
    """In the windows that are published."""
    window = min(384, model.row_length)
    objective = QuestionAnswering(
        column="answers",
        no_answer=False,
        max_tokens=window,
        overlap=window // 3,
        question_tokens=window // 6,
        items_per_row=1,
        separators=2 if isinstance(model.model.config, Roberta) else 1,
    )
    data = _data("", Answers(field="answers", text="context"))
    return Answering(model, dataclasses.replace(data, text_fields=("question", "context")), objective)


class _Reordered(Finding):
    """Its classes stand in an order of their own, and some may be missing (a B- without an I-)."""

    def __init__(self, model: Loaded, data: Data, objective: Tagging, tags: tuple[str, ...]) -> None:
        super().__init__(model, data, objective)
        self.order = [tags.index(tag) if tag in tags else -1 for tag in objective.tags]

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """In the order of `objective.tags`; what is missing has no probability."""
        absent = np.array([at < 0 for at in self.order])
        found = [scores_NK[:, self.order] for scores_NK in super().ask(items)]
        return [np.where(absent & ~np.isnan(scores_NK), -np.inf, scores_NK) for scores_NK in found]


def _data(text: str, column: Any) -> Data:
    """How a table is read."""
    how = {"packing": "none", "validation_share": 0.0, "test_share": 0.0}
    return Data(corpus="", text_field=text, columns=(column,), **how)
