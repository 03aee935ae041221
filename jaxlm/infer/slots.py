"""Continuous batching: answers of many requests in a fixed number of rows. In: a model, `Request`s. Out: `Event`s.

A free row takes the next request, reads its prompt in pieces, and moves on with the others token by token; it is free
again when the answer ends. One thread calls. Guaranteed: an answer depends on its request alone, to the bit on a CPU:
not on the other rows, nor on the row that it stands in, nor on when it came, nor on what was read before. A prompt is
always cut into the same pieces, so that pieces of another prompt with the same beginning can be taken over.
"""

import dataclasses
import itertools
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxlm.errors import UserError
from jaxlm.infer import frame as frames
from jaxlm.infer.engine_rows import Engine
from jaxlm.infer.generate import Reason, framed
from jaxlm.infer.predict import Predictor
from jaxlm.infer.row_sampling import Asked
from jaxlm.infer.sampling import Sampling
from jaxlm.infer.streaming import Stream
from jaxlm.objectives.frame import Frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be answered. Ids are those of the text alone: what frames it is added."""

    ids: Sequence[int] = ()  # of a decoder's prompt; of an encoder-decoder, what its answer begins with
    source_ids: Sequence[int] = ()  # what an encoder-decoder answers
    max_new_tokens: int
    min_new_tokens: int = 0  # no stop token comes before so many tokens
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    seed: int | None = None  # 0 to 2^32 - 1; None: another every time
    number: int = 0  # of the prompt among those that `generate` would answer with this seed
    stop: Sequence[str] = ()  # texts that end the answer, and are left out of it
    logprobs: int = 0  # tell that many of the likeliest tokens at every place
    adapter: str | None = None  # of `infer.adapters`; None: the base alone


class Event(NamedTuple):
    """What one step added to an answer."""

    ticket: int
    ids: tuple[int, ...]  # a stop token included
    log_probabilities: tuple[float, ...]  # the model's own, at temperature 1
    reason: Reason | None  # why the answer ends; None: it goes on
    text: str  # what may be shown now; all of an answer's are its text
    likeliest: tuple[
        tuple[tuple[int, float], ...], ...
    ]  # of every id: (id, log-probability), as many as asked for


@dataclasses.dataclass(kw_only=True, eq=False)
class _Answer:
    """A request under way."""

    ticket: int
    request: Request
    prompt: list[int]  # what the decoder reads, framed
    source: list[int]
    limit: int  # of the answer's tokens
    usual: Reason  # why it ends at the limit
    asked: Asked
    which: int  # number of its adapter
    stream: Stream | None
    row: int = -1
    read: int = 0  # tokens of the prompt that the row holds
    ids: list[int] = dataclasses.field(default_factory=list)


class Slots:
    """`submit`, then `step` as long as it is not `idle`. `frame`: what stands around texts; None: as `generate` has it.

    rows: answers at a time. room: tokens of a prompt and its answer. source_room: of an encoder-decoder's source.
    piece: tokens of a prompt that are read in one step. draft: a smaller model of the same tokenizer, which guesses
    `guesses` tokens for every step. int8: the cache holds keys and values as int8. likeliest: the most `logprobs`.
    """

    def __init__(
        self,
        loaded: Predictor,
        *,
        frame: Frame | None = None,
        rows: int = 8,
        room: int = 2048,
        source_room: int = 512,
        piece: int = 128,
        draft: Predictor | None = None,
        guesses: int = 4,
        int8: bool = False,
        likeliest: int = 20,
    ) -> None:
        self._frame: Frame = frame or frames.of_loaded(loaded)  # pyright: ignore[reportArgumentType]
        self._loaded, self._likeliest = loaded, likeliest
        self._models = [loaded] if draft is None else [loaded, draft]
        self._room, self._source_room = room, source_room
        self._engine = Engine(
            self._models,
            self._frame,
            rows=rows,
            room=room,
            source_room=source_room,
            piece=piece,
            guesses=guesses if draft is not None else 0,
            int8=int8,
            likeliest=likeliest,
        )
        self._tickets, self._waiting = itertools.count(), deque[_Answer]()
        self._rows: list[_Answer | None] = [None] * rows

    @property
    def waiting(self) -> int:
        """Requests that no row has taken yet."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Rows that are busy."""
        return sum(answer is not None for answer in self._rows)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.waiting or self.running)

    @property
    def reused(self) -> int:
        """Tokens of prompts that were copied and not computed, so far."""
        return self._engine.reused

    def compile(self) -> None:
        """Every program, so that no request waits for it. Before the first step."""
        assert not self.running
        self._engine.compile()

    def submit(self, request: Request) -> int:
        """The ticket of its events. UserError for what cannot be answered."""
        self._check(request)
        frame = self._frame
        told = [request.source_ids or request.ids], self._framed(request)
        each = [framed(m.model.config, *told, new_tokens=request.max_new_tokens) for m in self._models]
        text, limit = each[0][0][0], min(limits[0] for _, limits in each)
        prompt, source = ([*frame.start, *request.ids], text) if frame.encoder_decoder else (text, [])
        self._check_room(prompt, source, request)
        seed = secrets.randbits(32) if request.seed is None else request.seed
        asked = Asked.of(
            request.sampling,
            seed=seed,
            number=request.number,
            least=request.min_new_tokens,
            tell=request.logprobs,
        )
        tokenizer = self._loaded.tokenizer
        before = () if frame.encoder_decoder else request.ids
        answer = _Answer(
            ticket=next(self._tickets),
            request=request,
            prompt=prompt,
            source=source,
            limit=limit,
            usual="length" if limit == request.max_new_tokens else "positions",
            asked=asked,
            which=self._which(request),
            stream=None if tokenizer is None else Stream(tokenizer, before, request.stop),
        )
        self._waiting.append(answer)
        return answer.ticket

    def cancel(self, ticket: int) -> None:
        """No more events of it; its row is free at the next step. Nothing, if it has ended."""
        self._waiting = deque(answer for answer in self._waiting if answer.ticket != ticket)
        self._rows = [None if answer and answer.ticket == ticket else answer for answer in self._rows]

    def step(self) -> list[Event]:
        """One prompt is read by a piece, and all answers get their next tokens."""
        going = [answer for answer in self._rows if answer is not None and answer.ids]
        events = []
        if (reading := self._reading()) is not None and (chosen := self._engine.read(reading)) is not None:
            events.append(self._event(reading, *chosen))
        if going:
            made = self._engine.step(going)
            events += [self._event(answer, *chosen) for answer, chosen in zip(going, made, strict=True)]
        return events

    def _reading(self) -> _Answer | None:
        """Whose prompt is read; if nobody's, a free row takes the next one, which may begin as those before it."""
        for answer in self._rows:
            if answer is not None and not answer.ids:
                return answer
        free = [row for row, answer in enumerate(self._rows) if answer is None]
        if not (self._waiting and free):
            return None
        answer = self._waiting.popleft()
        self._engine.begin(answer, free)
        self._rows[answer.row] = answer
        return answer

    def _event(
        self, answer: _Answer, ids: Sequence[int], log_p: Sequence[float], likeliest: Sequence[Any]
    ) -> Event:
        """Of the tokens that an answer gets: those up to its end."""
        text, reason, number = "", None, 0
        for id in ids:
            answer.ids.append(id)
            number += 1
            if id in self._frame.stops:
                reason = "stop token"
            elif answer.stream is not None:
                text += answer.stream.add(id)
                reason = "stop text" if answer.stream.stopped else None
            if reason is None and len(answer.ids) == answer.limit:
                reason = answer.usual
            if reason is not None:
                text += answer.stream.rest() if answer.stream is not None else ""
                self._rows[answer.row] = None
                break
        most = answer.request.logprobs
        told = tuple(tuple(best[:most]) for best in likeliest[:number]) if most else ()
        return Event(answer.ticket, tuple(ids[:number]), tuple(log_p[:number]), reason, text, told)

    def _framed(self, request: Request) -> Frame:
        """With what an encoder-decoder's answer begins with."""
        start = self._frame.start
        return dataclasses.replace(self._frame, start=(*start, *request.ids)) if start else self._frame

    def _which(self, request: Request) -> int:
        choosing = getattr(self._loaded, "choosing", None)
        if choosing is None or not self._loaded.adapters:  # pyright: ignore[reportAttributeAccessIssue]
            if request.adapter is not None:
                raise UserError(f"adapter={request.adapter!r}: this model has no adapters. Leave it out.")
            return 0
        return choosing([request.adapter], 1).which[0]

    def _check(self, request: Request) -> None:
        request.sampling.validate("")
        if request.seed is not None and not 0 <= request.seed < 2**32:
            raise UserError(f"seed={request.seed}: allowed: 0 to {2**32 - 1}.")
        if not 0 <= request.logprobs <= self._likeliest:
            raise UserError(f"logprobs={request.logprobs}: allowed: 0 to {self._likeliest}.")
        if not 0 <= request.min_new_tokens <= request.max_new_tokens:
            raise UserError(
                f"min_new_tokens={request.min_new_tokens}: allowed: 0 to max_new_tokens={request.max_new_tokens}."
            )
        if "" in request.stop:
            raise UserError("stop='' is empty: every text ends with nothing. Leave it out.")
        if bool(request.source_ids) != self._frame.encoder_decoder:
            kind = (
                "an encoder-decoder, which answers source_ids"
                if self._frame.start
                else "a decoder: it reads ids"
            )
            raise UserError(f"source_ids of {len(request.source_ids)} tokens: the model is {kind}.")

    def _check_room(self, prompt: Sequence[int], source: Sequence[int], request: Request) -> None:
        if len(prompt) + request.max_new_tokens > self._room:
            raise UserError(
                f"a prompt of {len(prompt)} tokens (its frame counted) and max_new_tokens={request.max_new_tokens} are "
                f"more than a row's room of {self._room}. Allowed: max_new_tokens up to "
                f"{max(self._room - len(prompt), 0)}, a shorter prompt, or more room."
            )
        if len(source) > self._source_room:
            raise UserError(
                f"a source of {len(source)} tokens (its frame counted) is more than a row's source_room of "
                f"{self._source_room}. Shorten it, or give more source_room."
            )
