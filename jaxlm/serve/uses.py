"""What a served model can do. In: a model behind the queue, perhaps one of its adapters. Out: a `Served`.

What a model is for is said by `tasks.of`, as for `jaxlm predict`. Its functions block, and are called from threads.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.data.tokens import chat_template
from jaxlm.errors import UserError
from jaxlm.infer import embed, fill_mask, frame, text_reading
from jaxlm.infer.fill_mask import Filled
from jaxlm.infer.frame import Frame
from jaxlm.serve.limits import Refusal
from jaxlm.serve.queued import Queued
from jaxlm.serve.writer import Writer
from jaxlm.tasks import of as tasks
from jaxlm.tasks.classification import Choosing, Classifying
from jaxlm.tasks.label_sets import LabelSets
from jaxlm.tasks.question_answering import Answering
from jaxlm.tasks.scores import Comparing, Scoring
from jaxlm.tasks.tagging import Finding
from jaxlm.tasks.task import Item, Task, Values
from jaxlm.tasks.untrained import Embedding, Filling
from jaxlm.tasks.writing import Writer as Writing

EMBED, CLASSIFY, RANK, TAG, FILL, ANSWER, WRITE = (
    "embed",
    "classify",
    "rank",
    "tag",
    "fill",
    "answer",
    "write",
)
_WORDS = {
    EMBED: "embed texts (an encoder)",
    CLASSIFY: "classify texts (a head for classes)",
    RANK: "rank texts (a head that reads a pair and says one number)",
    TAG: "tag words (a head for tags)",
    FILL: "fill masks (a masked language model)",
    ANSWER: "answer questions from a context (a head for spans)",
    WRITE: "write (a decoder or an encoder-decoder)",
}
_TOP = (5, 100)  # candidates for a mask: each number is a program of its own


class Served:
    """A name that requests choose by."""

    def __init__(self, name: str, model: Queued, adapter: str | None = None) -> None:
        """UserError for a model that does nothing that has a route."""
        self.name, self.adapter, self._model = name, adapter, model
        stored = model.adapters[adapter] if adapter else model.stored
        self.ready = dataclasses.replace(model, stored=stored)
        self.writer: Writer | None = None
        self.task, self.pair = self._tasks()
        self.reading: text_reading.Reading | None = None
        self.does = self._does()
        if not self.does:
            raise UserError(f"{stored.where}: it {self.task.does}, which no route serves. Use jaxlm predict.")
        # What stands around a prompt, and around a conversation; None: it does not write, or has no chat template.
        self.frame = frame.of_loaded(self.ready) if WRITE in self.does else None
        self.talking = self._talking()
        if self.reading and FILL not in self.does:  # programs of longer rows are not needed
            self.ready = dataclasses.replace(
                self.ready, row_length=min(self.reading.length, model.row_length)
            )

    def require(self, use: str) -> None:
        """Refusal unless the model does it."""
        if use not in self.does:
            said = " and ".join(_WORDS[one] for one in sorted(self.does))
            raise Refusal(
                400,
                f"model {self.name} cannot {_WORDS[use]}; it can {said}.",
                param="model",
                code="model_does_not_do_this",
            )

    def on(self, rows: int) -> Queued:
        """The model for so many rows, with the adapter of this name."""
        return self.ready.choosing([self.adapter] * rows, rows) if self.ready.adapters else self.ready

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, D], float32, of length 1, as `jaxlm embed`."""
        assert self.reading is not None
        how = {"pooling": self.reading.pooling, "row_length": self.reading.length}
        return embed.embed(self.on(len(texts)), list(map(self.reading.text, texts)), **how)

    def vectors_of_ids(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """The same of texts that are ids of the tokenizer already, without special tokens."""
        assert self.reading is not None
        how = {"pooling": self.reading.pooling, "row_length": self.reading.length}
        return embed.of_ids(self.on(len(texts)), [np.array(one, np.int32) for one in texts], **how)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones included, before it is cut."""
        assert self.reading is not None
        more = self.ready.tokenizer.vocabulary.overhead(1, 1)
        return [
            len(ids) + more for ids in self.ready.tokenizer.encode_batch(list(map(self.reading.text, texts)))
        ]

    def judged(self, items: Sequence[Item]) -> tuple[Task, list[Values], list[Any]]:
        """Of every item what the task answers, and what the model said."""
        size = len(items[0])
        task = self.task if size == len(self.task.fields) else self.pair
        if task is None or any(len(item) != len(task.fields) for item in items):
            raise Refusal(
                400,
                f"inputs: {size} text(s) to classify together, and model {self.name} takes {len(self.task.fields)}.",
                param="inputs",
            )
        for item in items:
            task.check(item[0])
        mine: Any = copy.copy(task)
        mine.model = self.on(len(items))
        asked = mine.ask(items)
        if self.adapter and task.labels:
            asked = [one[: len(task.labels)] for one in asked]  # classes that only other adapters have
        return task, mine.answer(items, asked), asked

    def filled(self, texts: Sequence[str], top: int) -> list[list[Filled]]:
        """Of every text its masks, each with the `top` likeliest tokens."""
        most = next(one for one in _TOP if top <= one)
        each = [fill_mask.fill(self.on(1), [text], top=most) for text in texts]
        cut = lambda one: dataclasses.replace(one, candidates=one.candidates[:top])
        return [[cut(one) for one in masks] for masks in each]

    def sample(self) -> None:
        """Does a little of everything, so that the device knows the programs."""
        if EMBED in self.does:
            self.vectors(["a"])
        if FILL in self.does:
            for top in _TOP:
                self.filled([fill_mask.MASK], top)
        for task in (self.task, self.pair):
            if task is not None and self.does & {CLASSIFY, RANK, TAG, ANSWER}:
                self.judged([("a",) * len(task.fields)])

    def _tasks(self) -> tuple[Task, Task | None]:
        """Its task, and that of two texts where a head may read one or two."""
        made = tasks.of(self.ready, max_new_tokens=64)
        if self.ready.stored.run is None and isinstance(made, Classifying | LabelSets | Scoring):
            return made, tasks.of(self.ready, max_new_tokens=64, fields=("text", "text_pair"))
        return made, None

    def _talking(self) -> Frame | None:
        """The template brings what stands around a text, and with it another end of an answer."""
        around, tokenizer = self.frame, self.ready.tokenizer
        if around is None or around.encoder_decoder or tokenizer.chat is None:
            return None
        if around.chat:
            return around
        stops = dict.fromkeys((*around.stops, *chat_template.end_ids(tokenizer)))
        return dataclasses.replace(around, before=(), after=(), stops=tuple(stops))

    def _does(self) -> set[str]:
        match self.task:
            case Writing():
                return {WRITE}
            case Answering():
                return {ANSWER}
            case Finding():
                return {TAG}
            case Comparing() | Embedding():
                self.reading = text_reading.chosen(self.ready)
                return {EMBED}
            case Scoring():
                pairs = [one for one in (self.task, self.pair) if one is not None and len(one.fields) == 2]
                return {CLASSIFY, RANK} if pairs else {CLASSIFY}
            case Choosing():
                return set()
            case Classifying() | LabelSets():
                return {CLASSIFY}
            case Filling() if self.ready.model.config.kind == "encoder":
                self.reading = text_reading.chosen(self.ready)
                return {FILL, EMBED}
        return set()
