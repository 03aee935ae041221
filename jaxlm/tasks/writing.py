"""Tasks whose answer is a text that a model writes. In: a decoder or an encoder-decoder. Out: a `Task`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxlm.infer import answers, frame
from jaxlm.infer.answers import Answer
from jaxlm.infer.loaded import Loaded
from jaxlm.infer.predict import Predictor
from jaxlm.infer.sampling import Sampling
from jaxlm.objectives.frame import Frame
from jaxlm.objectives.search import Search
from jaxlm.tasks.task import Item, Task, Values

_TOGETHER = 32  # prompts that are answered in one batch, of similar length


class Writer(Task):
    """Looks for its answers as `search` says."""

    model: Predictor
    frame: Frame
    search = Search()
    said: str  # what `does` says, with a place for {how} it looks

    def look(self, **settings: Any) -> None:
        """These settings of the search instead."""
        self.search = dataclasses.replace(self.search, **settings)
        self.search.validate()
        beams = self.search.beams
        self.does = self.said.format(how=f"by a search with {beams} beams" if beams > 1 else "greedy")

    def written(
        self, prompts: Sequence[str], *, new_tokens: int, stop: Sequence[str] = (), longest: int = 0
    ) -> list[Answer]:
        """An answer to each, see `infer.answers.answer`."""
        order = sorted(range(len(prompts)), key=lambda k: len(prompts[k]))
        found: dict[int, Answer] = {}
        for at in range(0, len(order), _TOGETHER):
            part = order[at : at + _TOGETHER]
            # The last batch is filled up, so that it needs no program of its own.
            full = [*part, *[part[-1]] * (_TOGETHER - len(part))] if len(order) > _TOGETHER else part
            said, _ = answers.answer(
                self.model,
                self.frame,
                [prompts[k] for k in full],
                new_tokens=new_tokens,
                sampling=Sampling(),
                seed=0,
                stop=stop,
                search=self.search,
                longest=longest,
            )
            found |= dict(zip(part, said, strict=False))
        return [found[k] for k in range(len(prompts))]


class Writing(Writer):
    """What a model writes that was fine-tuned for nothing that is known."""

    columns, said = ("answer", "ended_by"), "writes an answer, {how}"

    def __init__(self, model: Loaded, new_tokens: int) -> None:
        self.model, self.new_tokens, self.frame = model, new_tokens, frame.of_loaded(model)
        self.look()

    def check(self, text: str) -> None:
        """It fits the model's positions."""
        answers.check(self.model.model.config, self.model.tokenizer, self.frame, [text])

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """To the end of the answer, or `new_tokens`."""
        found = self.written([text for (text,) in items], new_tokens=self.new_tokens)
        return [{"answer": one.text, "ended_by": one.written.reason} for one in found]
