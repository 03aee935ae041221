"""What a Hugging Face folder was fine-tuned for. In: a `Loaded` without a run. Out: the task of its head, or None.

Names of classes are those of `id2label` in its config.json; the texts and the right answers of a table stand in the
columns `text` and `label` (`labels`, `score`), or `tokens` and `tags`, or `question`, `context` and `answers`. Others
may be named for the texts: two make a pair, which a cross-encoder reads in one row, and an encoder of sentences apart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus.columns import Answers, Label, Labels, Number
from jaxlm.data.corpus.spans import Tags
from jaxlm.errors import UserError
from jaxlm.infer import text_reading
from jaxlm.infer.loaded import Loaded
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.multi_label import MultiLabel
from jaxlm.objectives.question_answering import QuestionAnswering
from jaxlm.objectives.regression import Regression
from jaxlm.objectives.similarity import Similarity
from jaxlm.objectives.tagging import Tagging
from jaxlm.tasks.classification import Classifying
from jaxlm.tasks.label_sets import LabelSets
from jaxlm.tasks.question_answering import Answering
from jaxlm.tasks.scores import Comparing, Scoring
from jaxlm.tasks.tagging import Finding
from jaxlm.tasks.task import Item, Trained


def of(model: Loaded, fields: tuple[str, ...] = ()) -> Trained | None:
    """By the one head that it has for classes; `fields`: what the texts of an item are called, (): as above. UserError
    for more than it reads."""
    names = model.stored.class_names()
    if labels := names.get("classes"):
        return _judge(model, labels, _checked(fields, ("text",), (1, 2)))
    if tags := names.get("tags"):
        return _tagger(model, tags, _checked(fields, ("tokens",), (1,)))
    if "span" in model.stored.heads:
        return _answering(model, _checked(fields, ("question", "context"), (2,)))
    return _alike(model, _checked(fields, (), (2,))) if len(fields) > 1 else None


def _checked(fields: tuple[str, ...], usual: tuple[str, ...], allowed: tuple[int, ...]) -> tuple[str, ...]:
    if fields and len(fields) not in allowed:
        usually = f" (usually {', '.join(usual)})" if usual else ""
        raise UserError(
            f"{', '.join(fields)}: {len(fields)} column(s) for the texts of an item, and the model takes "
            f"{' or '.join(map(str, allowed))}{usually}. Fix: --text-field=NAME, of a pair NAME,NAME."
        )
    return fields or usual


def _judge(model: Loaded, labels: tuple[str, ...], fields: tuple[str, ...]) -> Trained:
    """By `problem_type`; without it one class is a number, as transformers has it."""
    problem = model.stored.settings("config.json").get("problem_type")
    longest = model.row_length - model.tokenizer.vocabulary.overhead(1, len(fields))
    how = {"texts": len(fields), "pooling": "own", "max_tokens": longest, "items_per_row": 1}
    if problem == "regression" or (problem is None and len(labels) == 1):
        return Scoring(model, _data(fields, Number(field="score")), Regression(column="score", **how))
    if problem == "multi_label_classification":
        column = Labels(field="labels", separator="|")
        return LabelSets(model, _data(fields, column), MultiLabel(column="labels", labels=labels, **how))
    objective = Classification(column="label", labels=labels, **how)
    return Classifying(model, _data(fields, Label(field="label")), objective)


def _alike(model: Loaded, fields: tuple[str, ...]) -> Trained:
    """Without a head for classes."""
    how = {"pooling": "mean", "max_tokens": model.row_length - 2, "items_per_row": 1}
    objective = Similarity(column="score", lowest=0.0, highest=1.0, **how)
    return _Alike(model, _data(fields, Number(field="score")), objective)


def _tagger(model: Loaded, tags: tuple[str, ...], fields: tuple[str, ...]) -> Trained:
    bio = "O" in tags and all(tag == "O" or tag[:2] in ("B-", "I-") for tag in tags)
    labels = tuple(sorted({tag[2:] for tag in tags} - {""})) if bio else tags
    scheme = "bio" if bio else "words"
    objective = Tagging(
        column="tags", labels=labels, scheme=scheme, max_tokens=model.row_length - 2, items_per_row=1
    )
    column = Tags(field="tags", text=fields[0], between=" ", scheme=scheme)
    return _Reordered(model, _data(fields, column), objective, tags)


def _answering(model: Loaded, fields: tuple[str, ...]) -> Trained:
    """In the windows that are published."""
    window = min(384, model.row_length)
    objective = QuestionAnswering(
        column="answers",
        no_answer=False,
        max_tokens=window,
        overlap=window // 3,
        question_tokens=window // 6,
        items_per_row=1,
    )
    return Answering(model, _data(fields, Answers(field="answers", text=fields[-1])), objective)


class _Alike(Comparing):
    """Its vectors are made as the folder says, and nobody said what score a cosine stands for."""

    metrics = ("pearson", "spearman")
    model: Loaded  # as `_alike` makes it

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Pooled as the folder says."""
        return text_reading.vectors(self.model, texts)[0]


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


def _data(fields: tuple[str, ...], column: Any) -> Data:
    """How a table is read."""
    how = {"packing": "none", "validation_share": 0.0, "test_share": 0.0}
    texts = {"text_field": fields[0]} if len(fields) == 1 else {"text_fields": fields}
    return Data(corpus="", columns=(column,), **texts, **how)
