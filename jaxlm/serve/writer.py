"""Who writes texts. In: a prompt's ids. Out: its tokens as they come. `OneByOne` answers one prompt after the other.

Whatever fulfils `Writer` can stand in its place: routes know no more of it.
"""

import asyncio
import dataclasses
import math
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from jaxlm.infer import generate, sampling
from jaxlm.infer.frame import Frame
from jaxlm.infer.predict import Predictor
from jaxlm.infer.sampling import Sampling
from jaxlm.serve.limits import Asked, NotFinite, Refusal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """How a prompt is to go on."""

    frame: Frame  # what stands around it, and what ends it
    new_tokens: int
    sampling: Sampling
    seed: int  # the same one gives the same text
    adapter: str | None = None
    likeliest: int = 0  # tell so many of the likeliest tokens at every place
    # Set by who has read enough: the next step is then the last.
    enough: threading.Event = dataclasses.field(default_factory=threading.Event, compare=False)


@dataclasses.dataclass(frozen=True)
class Step:
    """A text so far; log-probabilities, and why it ended, are there at its end at the latest."""

    tokens: Sequence[int]
    log_p: Sequence[float] | None
    reason: generate.Reason | None
    likeliest: Sequence[
        Sequence[tuple[int, float]]
    ] = ()  # of every token (id, log-probability), if asked for


Over = Callable[[], bool]  # whether nobody waits for the text any more, or its time is over
Tell = Callable[[Step | BaseException], None]  # from a thread, to the one who waits


class Writer(Protocol):
    """Writes for many at once, or seems to."""

    room: int  # tokens of a prompt and its answer
    likeliest: int  # the most that a wish may ask for

    def warm(self) -> None:
        """Compiles what it can, before the first `submit`."""
        ...

    def submit(self, model: Predictor, ids: Sequence[int], wish: Wish, asked: Asked) -> AsyncIterator[Step]:
        """Steps until one with a reason; closing the iterator ends the writing. UserError for what cannot be read."""
        ...

    def close(self) -> None:
        """Ends its thread."""
        ...


async def followed(begin: Callable[[Over, Tell], None], asked: Asked) -> AsyncIterator[Step]:
    """The steps that a thread tells, once `begin` has handed it the text; when the iterator is closed it is over."""
    loop, steps = asyncio.get_running_loop(), asyncio.Queue[Step | BaseException]()
    ended = threading.Event()

    def tell(step: Step | BaseException) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(steps.put_nowait, step)

    begin(lambda: ended.is_set() or asked.over, tell)
    try:
        while True:
            step = await steps.get()
            if isinstance(step, BaseException):
                raise step
            yield step
            if step.reason is not None:
                return
    finally:
        ended.set()


class OneByOne:
    """A thread that does one prompt after the other, with `infer.generate`."""

    room = 2**31  # the model's positions are checked anyway
    likeliest = 0

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs = queue.Queue[Callable[[], None] | None]()
        self._known: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def warm(self) -> None:
        """See `Writer`; programs depend on what is asked."""

    def submit(self, model: Predictor, ids: Sequence[int], wish: Wish, asked: Asked) -> AsyncIterator[Step]:
        """See `Writer`."""
        begin = lambda over, tell: self._jobs.put(lambda: self._write(model, ids, wish, over, tell))
        return followed(begin, asked)

    def close(self) -> None:
        """See `Writer`."""
        self._jobs.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _write(
        self,
        model: Predictor,
        ids: Sequence[int],
        wish: Wish,
        over: Over,
        tell: Tell,
    ) -> None:
        def watch(rows: list[list[int]]) -> set[int]:
            tell(Step(rows[0], None, None))
            return {0} if over() or wish.enough.is_set() else set()

        try:
            if over():
                raise Refusal(
                    504, "The time of the request was over before it was begun.", kind="timeout_error"
                )
            (written,), _ = generate.generate(
                model,
                [ids],
                wish.frame,
                new_tokens=wish.new_tokens,
                sampling=wish.sampling,
                seed=wish.seed,
                known_V=self._known_of(model),
                watch=watch,
            )
            if over():
                raise Refusal(504, "The time of the request is over.", kind="timeout_error")
            if not all(map(math.isfinite, written.log_probabilities)):
                raise NotFinite(self._name)
            tell(Step(written.tokens, written.log_probabilities, written.reason))
        except BaseException as error:  # whatever it is, the one who waits is told
            tell(error)

    def _known_of(self, model: Predictor) -> Any:
        return self._known.setdefault(id(model.tokenizer), sampling.known(model.tokenizer))
