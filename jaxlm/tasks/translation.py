"""A text from a text: translations and summaries. In: a run with `Translation`, or `Summarisation`. Out: a `Task`."""

import functools
from collections.abc import Sequence
from typing import Any

from jaxlm.config import Data
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.steps import Prefix
from jaxlm.evaluate import texts
from jaxlm.infer import answers
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.translation import Translation
from jaxlm.tasks.task import Item, Measured, Trained, Values
from jaxlm.tasks.writing import Writer


class Translating(Writer, Trained):
    """The target of a source, found as the objective's `search` says; measured by BLEU, chrF and TER.

    A source that is longer than those of training is cut where those were cut, else read whole.
    """

    columns, metrics = ("answer", "ended_by"), texts.BLEU
    verb = "translates"

    def __init__(self, model: Predictor, data: Data, objective: Translation) -> None:
        super().__init__(model, data, objective)
        self.frame, self.search = objective.frame(model.tokenizer.vocabulary), objective.search
        self.said = f"{self.verb}, {{how}}, in up to {self._room} tokens"
        self.look()

    @classmethod
    def asks(cls, data: Data) -> tuple[str, ...]:
        """The source."""
        return super().asks(data)[:1]

    def check(self, text: str) -> None:
        """It fits the model's positions, or is cut."""
        if not self._longest:
            answers.check(self.model.model.config, self.model.tokenizer, self.frame, [self._asked(text)])

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """To the end of the answer, or as many tokens as a target had in training."""
        asked_of = [self._asked(source) for source, *_ in items]
        found = self.written(asked_of, new_tokens=self._room, longest=self._longest)
        return [{"answer": one.text, "ended_by": one.written.reason} for one in found]

    def wanted(self) -> Wanted:
        """Source and target. UserError where the library that compares them is missing."""
        texts.check(self.metrics)
        return Wanted(self.data.corpus_config().wanted.texts)

    def item(self, record: Record) -> Item:
        """The source."""
        return record.texts[:1]

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As `evaluate.texts` has it."""
        written, right = [one["answer"] for one in answers], [record.texts[1] for record in records]
        metrics, table = self._compared(written, right, [record.texts[0] for record in records])
        return Measured(items=len(records), metrics=metrics, table=table)

    def _compared(self, written: list[str], right: list[str], sources: list[str]) -> Any:
        return texts.translations(written, right)

    def _asked(self, text: str) -> str:
        """The source with the words that stood before it in training."""
        for step in self._prefixes:
            text = step.before(text)
        return text

    @functools.cached_property
    def _prefixes(self) -> list[Prefix]:
        corpus = next(iter(self.data.corpora().values()))
        return [step for step in corpus.steps if isinstance(step, Prefix)]

    @property
    def _longest(self) -> int:
        """Tokens of a source that are read; 0: all."""
        cut = self.objective.long_sources == "cut"
        return self.objective.longest_source(self.model.row_length) if cut else 0

    @property
    def _room(self) -> int:
        return self.objective.longest_target(self.model.row_length)


class Summarising(Translating):
    """The same, measured by ROUGE beside that of the source's first sentence."""

    metrics, verb = texts.ROUGE, "sums up"

    def _compared(self, written: list[str], right: list[str], sources: list[str]) -> Any:
        bare = [self._without(source) for source in sources]
        return texts.summaries(written, right, bare)

    def _without(self, source: str) -> str:
        for step in reversed(self._prefixes):
            source = source.removeprefix(step.text)
        return source
