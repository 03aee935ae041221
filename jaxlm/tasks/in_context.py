"""Tasks that a pre-trained model does from its prompt alone, with answered prompts before it or none.

In: a decoder (of choices also a masked language model), a `Setup`. Out: `Task`s. Prompt and answer are joined by a
space, prompts by an empty line, as the LM evaluation harness does.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError
from jaxlm.evaluate import texts
from jaxlm.evaluate.classes import Sampled, resampled
from jaxlm.infer import classify, frame, likelihood
from jaxlm.infer.loaded import Loaded
from jaxlm.tasks import classification
from jaxlm.tasks.setup import Setup, choices_of, right_one
from jaxlm.tasks.task import Item, Measured, Task, Values
from jaxlm.tasks.writing import Writer


class Picking(Task):
    """The likeliest of some answers, the same for every item, or its own."""

    columns, metrics = ("predicted", "scores"), ("accuracy",)

    def __init__(self, model: Loaded, setup: Setup) -> None:
        self.model, self._setup, self.labels = model, setup, setup.choices
        self.fields, self._examples = setup.fields, setup.examples()
        self.does = f"chooses an answer, {setup.shots} examples before it"

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Log-probabilities of the choices, normalised, [C]."""
        cases = [self._case(item) for item in items]
        pairs = [(prompt, f" {choice}") for prompt, choices in cases for choice in choices]
        log_p, tokens = _continued(self.model, pairs)
        if self._setup.normalise == "unconditional":
            log_p -= _continued(self.model, [("", choice) for _, choice in pairs])[0]
        elif self._setup.normalise == "tokens":
            log_p /= tokens
        elif self._setup.normalise == "characters":
            log_p /= [len(choice) - 1 for _, choice in pairs]
        ends = np.cumsum([len(choices) for _, choices in cases])
        return np.split(log_p, ends[:-1])

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The likeliest, and what each of them scored."""
        found = []
        for item, scores in zip(items, asked, strict=True):
            choices = self._case(item)[1]
            scored = dict(zip(choices, scores.tolist(), strict=True))
            found.append({"predicted": choices[int(np.argmax(scores))], "scores": scored})
        return found

    def votes(self, asked: Sequence[Any]) -> list[Any]:
        """1 for the likeliest choice."""
        return [np.eye(len(scores))[np.argmax(scores)] for scores in asked]

    def wanted(self) -> Wanted:
        """What the template names; the right answer and choices are read with the row."""
        return Wanted(self.fields)

    def record(self, row: Mapping[str, Any], where: str, number: int) -> Record:
        """The texts, behind them the item's own choices; the value is the number of the right one."""
        own = () if self.labels else choices_of(row, where)
        right = right_one(row.get(self._setup.answer), self.labels or own, where)
        texts = (*self._setup.texts(row, where), *own)
        return Record(texts, (float(right),), where=where, origin=(0, number))

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As a classifier, where all items have the same choices; else the accuracy."""
        right_N = np.array([int(float(str(record.values[0]))) for record in records])
        if self.labels:
            return classification.measured(
                self.labels, right_N, np.stack([classify.shares(one) for one in asked])
            )
        hits_N = np.array([int(np.argmax(one)) == right for one, right in zip(asked, right_N, strict=True)])
        faults = [
            -float(np.log(max(classify.shares(one)[k], 1e-30))) for one, k in zip(asked, right_N, strict=True)
        ]
        metrics = resampled(len(hits_N), lambda items: {"accuracy": float(hits_N[items].mean())})
        return Measured(items=len(hits_N), metrics=metrics, faults=faults)

    def _case(self, item: Item) -> tuple[str, tuple[str, ...]]:
        """(prompt, choices)."""
        size = len(self.fields)
        return self._examples + self._setup.prompt(item[:size]), self.labels or item[size:]


class Completing(Writer):
    """What a model writes behind a prompt, or as an answer to it; a decoder to the end of the line."""

    columns = ("answer",)

    def __init__(self, model: Loaded, setup: Setup, new_tokens: int) -> None:
        self.metrics, self._compared = _COMPARED[setup.task]
        self.model, self._setup, self._new_tokens = model, setup, new_tokens
        self.fields, self._examples = setup.fields, setup.examples()
        own = frame.of_loaded(model)
        self.frame = own if own.apart else dataclasses.replace(own, before=likelihood.before(model))
        self._stop = () if own.apart else ("\n",)
        self.said = f"completes a prompt, {{how}}, {setup.shots} examples before it"
        self.look()

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """Without the space before it."""
        prompts = [self._examples + self._setup.prompt(item) for item in items]
        found = self.written(prompts, new_tokens=self._new_tokens, stop=self._stop)
        return [{"answer": one.text.strip()} for one in found]

    def wanted(self) -> Wanted:
        """What the template names. UserError where a library that compares is missing."""
        texts.check(self.metrics)
        return Wanted(self.fields)

    def record(self, row: Mapping[str, Any], where: str, number: int) -> Record:
        """The texts; the value is the right answer. UserError for a row without."""
        right = str(row.get(self._setup.answer, "")).strip()
        if not right:
            there = ", ".join(map(str, row))
            raise UserError(
                f'{where}: field "{self._setup.answer}", the right answer, is missing or empty. Fields there: {there}. '
                "Fix: --answer=FIELD."
            )
        return Record(self._setup.texts(row, where), (right,), where=where, origin=(0, number))

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """How near it is to the right answer."""
        written, right = [one["answer"] for one in answers], [str(record.values[0]) for record in records]
        metrics, table = self._compared(written, right, [" ".join(record.texts) for record in records])
        return Measured(items=len(records), metrics=metrics, table=table)


def _exact(written: Sequence[str], right: Sequence[str], sources: Sequence[str]) -> tuple[Sampled, str]:
    """How often it is the same to the letter; there is nothing more to say."""
    hits_N = np.array([one == other for one, other in zip(written, right, strict=True)])
    return resampled(len(hits_N), lambda items: {"exact": float(hits_N[items].mean())}), ""


# By task: the metrics, and what gives them from what is written, what is right, and the prompts' texts.
_COMPARED: dict[str, tuple[tuple[str, ...], Callable[..., tuple[Sampled, str]]]] = {
    "completion": (("exact",), _exact),
    "translation": (texts.BLEU, lambda written, right, sources: texts.translations(written, right)),
    "summarisation": (texts.ROUGE, texts.summaries),
}


def _continued(model: Loaded, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """(log-probability of what follows each prompt, tokens of it). Both are encoded together, then told apart by the
    number of the prompt's own tokens."""
    encode = model.tokenizer.encode_marked
    sizes = [len(encode(prompt)) if prompt else 0 for prompt, _ in pairs]
    texts = [prompt + answer for prompt, answer in pairs]
    if model.model.config.kind == "encoder":
        found = [
            log_p[size:] for (_, log_p), size in zip(likelihood.masked(model, texts), sizes, strict=True)
        ]
    else:
        start = likelihood.before(model)
        rows = [[*start, *encode(text)] for text in texts]
        scored = likelihood.followed(model, rows)
        found = [one.log_p[max(len(start) + size - 1, 0) :] for one, size in zip(scored, sizes, strict=True)]
    return np.array([one.sum(dtype=np.float64) for one in found]), np.array([len(one) for one in found])
