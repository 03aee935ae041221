"""Spans of texts with a label: entities, or words with a part of speech. In: a run with `Tagging`. Out: a `Task`."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus.record import Record, Span
from jaxlm.evaluate import spans
from jaxlm.infer import tag
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.tagging import Tagging
from jaxlm.tasks.task import Item, Measured, Task, Trained, Values, known


class Finding(Trained):
    """Spans with a label each; measured by precision, recall and F1 of whole spans."""

    columns, metrics = ("spans",), ("precision", "recall", "f1", "macro_f1")

    @property
    def kind(self) -> type[Task]:
        """With a chain or without, of a run or a folder of others: the same spans are asked for."""
        return Finding

    def __init__(self, model: Predictor, data: Data, objective: Tagging) -> None:
        super().__init__(model, data, objective)
        self.does = f"spans with one of {len(objective.labels)} labels"

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Log-probabilities of the tags of every word, [words, K]."""
        return tag.scores(self.model, self.objective, self._texts(items), between=self._between)

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The likeliest sequence of tags that can be, as spans."""
        texts = self._texts(items)
        found = self._found(texts, asked)
        return [
            {"spans": [{"start": a, "end": b, "label": label, "text": text[a:b]} for a, b, label in one]}
            for text, one in zip(texts, found, strict=True)
        ]

    def votes(self, asked: Sequence[Any]) -> list[Any]:
        """1 for the likeliest tag of every word, whatever stands beside it."""
        return [_votes(scores_NK) for scores_NK in asked]

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As `evaluate.spans` has it."""
        labels, right, found = self.objective.labels, [], []
        for record, answer in zip(records, answers, strict=True):
            there: Any = record.values[0]
            for *_, label in there:
                known(label, labels, record.where)
            right.append(there)
            found.append([(one["start"], one["end"], one["label"]) for one in answer["spans"]])
        table = spans.table(right, found, labels)
        return Measured(items=len(records), metrics=spans.metrics(right, found, labels), table=table)

    def _found(self, texts: Sequence[str], asked: Sequence[Any]) -> list[list[Span]]:
        return tag.spans(self.objective, texts, asked, between=self._between)

    def _texts(self, items: Sequence[Item]) -> list[str]:
        return [text for (text,) in items]

    @property
    def _between(self) -> str:
        """What stands between two words in the texts that the tagger was trained on."""
        column = next(one for one in self.data.columns if one.field == self.objective.column)
        return getattr(column, "between", " ")


class Chaining(Finding):
    """The same of a model that knows which tags follow each other."""

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Logits of the tags of every word, [words, K], and the chain."""
        chain = tag.chain(self.model)
        return [(scores_NK, chain) for scores_NK in super().ask(items)]

    def _found(self, texts: Sequence[str], asked: Sequence[Any]) -> list[list[Span]]:
        scores, chains = zip(*asked, strict=True)
        return tag.spans(self.objective, texts, scores, between=self._between, chains=chains)

    def votes(self, asked: Sequence[Any]) -> list[Any]:
        """Each word for itself: votes say nothing of what follows what."""
        scores, chains = zip(*asked, strict=True)
        return list(zip(super().votes(scores), jax.tree.map(np.zeros_like, list(chains)), strict=True))


def _votes(scores_NK: np.ndarray) -> np.ndarray:
    """NaN where a word has no scores."""
    votes_NK = np.eye(scores_NK.shape[1], dtype=scores_NK.dtype)[np.nan_to_num(scores_NK).argmax(axis=1)]
    return np.where(np.isnan(scores_NK), np.nan, votes_NK)
