"""Text in, text out. In: prompts as text, a `Predictor` and a frame. Out: answers, written while they are made.

An answer of a decoder is what follows the prompt, with the space between them; of an encoder-decoder, what its decoder
writes. Text that stops it ("--stop") is cut off, and so is a stop token. Special tokens in a prompt count as such; in
an answer they are left out, but for sentinels.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from jaxlm.errors import UserError
from jaxlm.infer.frame import Frame, asking
from jaxlm.infer.generate import Speed, Written, framed, generate
from jaxlm.infer.generate import search as searched
from jaxlm.infer.predict import Predictor
from jaxlm.infer.sampling import Sampling, known
from jaxlm.objectives.search import Search

Show = Callable[[str], None]
# What a tokenizer decodes the first bytes of a letter to.
INCOMPLETE = "\ufffd"
_GREEDY = Search()


@dataclasses.dataclass(frozen=True)
class Answer:
    """A prompt and what the model wrote."""

    prompt: str
    text: str
    written: Written

    def to_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {"prompt": self.prompt, "text": self.text} | dataclasses.asdict(self.written)


def check(config: Any, tokenizer: Any, frame: Frame, prompts: Sequence[str]) -> None:
    """UserError for prompts that a model of this config cannot answer."""
    framed(config, [asking(tokenizer, frame, prompt) for prompt in prompts], frame, new_tokens=1)


def answer(
    predictor: Predictor,
    frame: Frame,
    prompts: Sequence[str],
    *,
    new_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: Sequence[str] = (),
    show: Show | None = None,
    search: Search = _GREEDY,
    longest: int = 0,
    int8: bool = False,
    first: int = 0,
) -> tuple[list[Answer], Speed]:
    """Answers to all prompts; of a search its `n_best` to each, the best first. `show` gets the text of a single
    prompt's answer piece by piece as it is made, and what a search found at its end. Of a prompt the first `longest`
    tokens are read; 0: all. `int8`: the cache holds keys and values so. `first`: the number of the first prompt among
    all of a job: what is drawn for a prompt depends on its number."""
    if "" in stop:
        raise UserError("--stop= is empty: every text ends with nothing. Leave it out.")
    tokenizer = predictor.tokenizer
    ids = [asking(tokenizer, frame, prompt)[: longest or None] for prompt in prompts]
    show = show if len(prompts) == search.n_best == 1 else None
    reader = Reader(tokenizer, frame, ids, tuple(stop), show)
    if search.needed:
        check_drawing(sampling)
        return _searched(predictor, frame, prompts, reader, new_tokens, search, int8, first)
    written, speed = generate(
        predictor,
        ids,
        frame,
        new_tokens=new_tokens,
        sampling=sampling,
        seed=seed,
        known_V=known(tokenizer),
        watch=reader.look if reader.needed else None,
        int8=int8,
        first=first,
    )
    texts = [reader.text(row, list(w.tokens)) for row, w in enumerate(written)]
    reader.finish(texts)
    return [Answer(*parts) for parts in zip(prompts, texts, written, strict=True)], speed


def _searched(
    predictor: Predictor,
    frame: Frame,
    prompts: Sequence[str],
    reader: "Reader",
    new_tokens: int,
    search: Search,
    int8: bool,
    first: int,
) -> tuple[list[Answer], Speed]:
    settings = {"new_tokens": new_tokens, "how": search, "int8": int8, "known_V": known(predictor.tokenizer)}
    settings["first"] = first
    found, speed = searched(predictor, reader.prompts, frame, **settings)
    made = [
        Answer(prompts[row], reader.text(row, list(one.tokens)), one)
        for row, several in enumerate(found)
        for one in several
    ]
    reader.finish([one.text for one in made])
    return made, speed


def check_drawing(sampling: Sampling) -> None:
    """UserError for what a search does not do."""
    if sampling.temperature or sampling.repetition_penalty != 1.0:
        name = "temperature" if sampling.temperature else "repetition-penalty"
        raise UserError(
            f"--{name}={getattr(sampling, name.replace('-', '_'))} beside a search (--beams, --no-repeat-ngram, "
            f"--min-new-tokens), which draws nothing and takes the likeliest. Leave --{name} out."
        )


def table(found: Sequence[Answer]) -> str:
    """The answers as text, one after the other."""
    return "\n".join(f"{a.prompt}\n    {' '.join(a.text.split())}  [{a.written.reason}]" for a in found)


class Reader:
    """Turns ids into text as they come."""

    def __init__(
        self,
        tokenizer: Any,
        frame: Frame,
        prompts: Sequence[Sequence[int]],
        stop: tuple[str, ...],
        show: Show | None,
    ):
        self.tokenizer, self.frame, self.prompts, self.stop, self.show = tokenizer, frame, prompts, stop, show
        self.needed = bool(stop) or show is not None
        self._shown = 0

    def look(self, rows: list[list[int]]) -> set[int]:
        """Rows whose text has come to a stop; the new text of a single row is shown."""
        texts = [self._whole(row, ids) for row, ids in enumerate(rows)]
        if self.show is not None:
            # What may become a stop text, or a letter, waits.
            waiting = max([len(s) - 1 for s in self.stop], default=0)
            self._show(self._cut(texts[0]).removesuffix(INCOMPLETE), waiting)
        return {row for row, text in enumerate(texts) if any(s in text for s in self.stop)}

    def finish(self, texts: list[str]) -> None:
        """Shows what waited."""
        if self.show is not None:
            self._show(texts[0], 0)

    def text(self, row: int, ids: list[int]) -> str:
        """What a row's answer says, up to what stops it."""
        return self._cut(self._whole(row, ids))

    def _show(self, text: str, waiting: int) -> None:
        end = max(len(text) - waiting, self._shown)
        if self.show is not None and end > self._shown:
            self.show(text[self._shown : end])
        self._shown = end

    def _cut(self, text: str) -> str:
        return text[: min((text.index(s) for s in self.stop if s in text), default=len(text))]

    def _whole(self, row: int, ids: list[int]) -> str:
        ids = ids[:-1] if ids and ids[-1] in self.frame.stops else ids
        return following(self.tokenizer, () if self.frame.encoder_decoder else self.prompts[row], ids)


def following(tokenizer: Any, before: Sequence[int], ids: Sequence[int]) -> str:
    """What ids say behind others: together with these, as a tokenizer may drop the space that a text begins with."""
    begun, whole = _text(tokenizer, [*before]) if before else "", _text(tokenizer, [*before, *ids])
    return whole[len(begun) :] if whole.startswith(begun) else _text(tokenizer, [*ids])


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of ids; sentinels, which say what span of the source is meant, by their names."""
    sentinels = set(tokenizer.vocabulary.sentinels)
    if sentinels.isdisjoint(ids):
        return tokenizer.decode(ids)
    parts: list[str] = []
    for marks, group in itertools.groupby(ids, sentinels.__contains__):
        piece = list(group)
        parts += [tokenizer.token(id) for id in piece] if marks else [tokenizer.decode(piece).strip()]
    return " ".join(part for part in parts if part)
