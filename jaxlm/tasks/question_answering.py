"""Answers to questions that stand in a text. In: a run with `QuestionAnswering`. Out: a `Task`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus.record import Record
from jaxlm.evaluate import answers as rule
from jaxlm.infer import extract
from jaxlm.infer.extract import Candidate, Found
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.question_answering import QuestionAnswering
from jaxlm.tasks.task import Item, Measured, Task, Trained, Values

_NOTHING: Values = {"predicted": "", "place": None, "probability": 1.0}  # of a context without a token


class Answering(Trained):
    """The part of the context that answers the question, measured by SQuAD's exact match and F1."""

    def __init__(self, model: Predictor, data: Data, objective: QuestionAnswering) -> None:
        super().__init__(model, data, objective)
        none = objective.no_answer
        self.does = "the part of the context that answers the question" + ", or none" * none
        self.columns = ("predicted", "place", "probability", *(["no_answer_score"] if none else []))
        self.metrics = (*rule.NAMES, *(rule.WITH_NONE if none else ()))

        kept = getattr(getattr(model, "stored", None), "metrics", {}).get(f"eval/{rule.KEPT}", 0.0)
        self.threshold = kept if objective.threshold is None else objective.threshold

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Of every window of a context the scores of its [CLS] and tokens, [1 + tokens, 2] each."""
        return extract.scores(self.model, self.objective, items)

    def together(
        self,
        tasks: Sequence[Task],
        items: Sequence[Item],
        said: Sequence[Sequence[Any]],
        shares: Sequence[float],
    ) -> list[Any]:
        """The union of what they propose, whatever their tokens and windows: a part of the context has the mean of its
        probabilities, 0 of a model that does not name it, and so has no answer."""
        each = [task._found(items, one) for task, one in zip(tasks, said, strict=True)]  # pyright: ignore
        return [
            _united([_ranked(context, one, self._none) for one in found], shares)
            for (_, context), *found in zip(items, *each, strict=True)
        ]

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The best part: its text, [first character, one after the last], and its share among the best 20.

        Where a question may have none, "" and null if `no_answer_score`, that of none less that of the best part, is
        above the threshold: the objective's, else the best on held-out questions that its checkpoint kept, else 0.
        """
        said = []
        for (_, context), found in zip(items, self._found(items, asked), strict=True):
            none = not found.candidates or (self._none and found.none_score > self.threshold)
            ranked = _ranked(context, found, self._none)
            best = next((one for one in ranked if none == (one["place"] is None)), _NOTHING)
            said.append({**best, "no_answer_score": found.none_score} if self._none else best)
        return said

    def candidates(self, items: Sequence[Item], most: int) -> list[list[Values]]:
        """Of every item the best parts, the likeliest first, as `answer` has them; "" is no answer."""
        found = self._found(items, self.ask(items))
        return [
            _ranked(context, one, self._none)[:most] for (_, context), one in zip(items, found, strict=True)
        ]

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As `evaluate.answers` has it, intervals over contexts."""
        contexts = [record.texts[1] for record in records]
        right = [[record.texts[1][a:b] for a, b, _ in _spans(record)] for record in records]
        if not self._none:
            said = [one["predicted"] for one in answers]
            return Measured(items=len(records), metrics=rule.metrics(said, right, contexts))
        found = self._found([self.item(record) for record in records], asked)
        best = [_best(context, one) for context, one in zip(contexts, found, strict=True)]
        scores = [one.none_score for one in found]
        metrics = rule.metrics_with_none(best, right, contexts, scores, self.threshold)
        return Measured(items=len(records), metrics=metrics)

    @property
    def _none(self) -> bool:
        return self.objective.no_answer

    def _found(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Found]:
        """Of an ensemble they are there already."""
        if all(isinstance(one, Found) for one in asked):
            return list(asked)
        return extract.answers(self.model.tokenizer, self.objective, items, asked)


def _united(said: Sequence[Sequence[Values]], shares: Sequence[float]) -> Found:
    """Of every model's parts, with the logarithm of their mean probability as score."""
    none, total = 0.0, dict[tuple[int, int], float]()
    for share, parts in zip(shares, said, strict=True):
        for part in parts:
            if part["place"] is None:
                none += share * part["probability"]
                continue
            start, end = part["place"]
            total[start, end] = total.get((start, end), 0.0) + share * part["probability"]
    score = lambda probability: float(np.log(max(probability, np.finfo(np.float64).tiny)))
    ranked = sorted(total.items(), key=lambda one: (-one[1], one[0]))
    candidates = [Candidate(start=a, end=b, score=score(p)) for (a, b), p in ranked]
    return Found(
        candidates=candidates,
        none_score=score(none) - candidates[0].score if candidates else extract.CERTAIN,
    )


def _ranked(context: str, found: Found, none: bool) -> list[Values]:
    """The candidates, and no answer where there may be `none`, each with its share of them all."""
    places: list[Any] = [[one.start, one.end] for one in found.candidates]
    scores = [one.score for one in found.candidates]
    if none and scores:
        places, scores = [*places, None], [*scores, found.none_score + scores[0]]
    shares = np.exp(np.array(scores) - np.max(scores, initial=-np.inf))
    shares /= max(shares.sum(), 1.0)
    values = [
        {
            "predicted": context[place[0] : place[1]] if place else "",
            "place": place,
            "probability": float(share),
        }
        for place, share in zip(places, shares, strict=True)
    ]
    return sorted(values, key=lambda one: -one["probability"])


def _best(context: str, found: Found) -> str:
    return context[found.candidates[0].start : found.candidates[0].end] if found.candidates else ""


def _spans(record: Record) -> Sequence[Any]:
    return record.values[0]  # pyright: ignore[reportReturnType]  # of a column of answers
