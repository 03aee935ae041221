"""Many texts at once, in the rows of `infer.slots`. In: prompts' ids. Out: tokens as they come; a `writer.Writer`.

One thread steps as long as there is something to write; a prompt that comes takes the next free row. A model on several
devices has no rows (`writer.OneByOne`).
"""

import dataclasses
import math
import threading
from collections.abc import AsyncIterator, Sequence

from jaxlm.errors import UserError
from jaxlm.infer.frame import Frame
from jaxlm.infer.generate import Reason
from jaxlm.infer.loaded import Loaded
from jaxlm.infer.predict import Predictor
from jaxlm.infer.slots import Event, Request, Slots
from jaxlm.serve.limits import Asked, NotFinite, Refusal
from jaxlm.serve.writer import Over, Step, Tell, Wish, followed


@dataclasses.dataclass(eq=False)
class _Job:
    """A text under way."""

    request: Request
    wish: Wish
    over: Over
    tell: Tell
    tokens: list[int] = dataclasses.field(default_factory=list)
    log_p: list[float] = dataclasses.field(default_factory=list)
    likeliest: list[Sequence[tuple[int, float]]] = dataclasses.field(default_factory=list)

    def step(self, reason: Reason | None) -> Step:
        """The text so far."""
        return Step(list(self.tokens), list(self.log_p), reason, list(self.likeliest))


class InRows:
    """A thread with the rows of one model; its adapters share them."""

    likeliest = 20

    def __init__(self, name: str, model: Loaded, frames: Sequence[Frame], *, rows: int, room: int) -> None:
        """`frames`: of all that is asked of it. UserError for a model on several devices."""
        stops = dict.fromkeys(id for one in frames for id in one.stops)
        # What stands before a prompt is that of each, so it is put there here.
        self._frame = dataclasses.replace(frames[0], stops=tuple(stops))
        if not self._frame.encoder_decoder:
            self._frame = dataclasses.replace(self._frame, before=(), after=())
        longest = getattr(model.model.config, "max_positions", room)
        self.room = min(room, longest) if not self._frame.encoder_decoder else room
        self._name = name
        self._slots = Slots(
            model, frame=self._frame, rows=rows, room=self.room, source_room=longest, likeliest=self.likeliest
        )
        self._new: list[_Job] = []
        self._jobs: dict[int, _Job] = {}
        self._changed, self._open = threading.Condition(), True
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def warm(self) -> None:
        """See `Writer`."""
        self._slots.compile()
        self._thread.start()

    def submit(self, model: Predictor, ids: Sequence[int], wish: Wish, asked: Asked) -> AsyncIterator[Step]:
        """See `Writer`."""

        def begin(over: Over, tell: Tell) -> None:
            with self._changed:
                self._new.append(_Job(self._request(ids, wish), wish, over, tell))
                self._changed.notify()

        return followed(begin, asked)

    def close(self) -> None:
        """See `Writer`."""
        with self._changed:
            self._open = False
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _request(self, ids: Sequence[int], wish: Wish) -> Request:
        how = {"max_new_tokens": wish.new_tokens, "sampling": wish.sampling, "seed": wish.seed}
        how |= {"logprobs": wish.likeliest}
        if self._frame.encoder_decoder:
            return Request(source_ids=ids, adapter=wish.adapter, **how)
        return Request(ids=[*wish.frame.before, *ids, *wish.frame.after], adapter=wish.adapter, **how)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._new and self._slots.idle:
                    self._changed.wait()
                new, self._new = self._new, []
                if not self._open and self._slots.idle and not new:
                    return
            try:
                self._begin(new)
                self._end()
                for event in self._slots.step() if not self._slots.idle else ():
                    self._told(event)
            except Exception as error:  # whatever it is, those who wait are told
                for ticket, job in list(self._jobs.items()):
                    self._finish(ticket, job, error)

    def _begin(self, new: Sequence[_Job]) -> None:
        for job in new:
            try:
                self._jobs[self._slots.submit(job.request)] = job
            except UserError as error:
                job.tell(error)

    def _end(self) -> None:
        """Those that nobody waits for, or that were read far enough."""
        for ticket, job in list(self._jobs.items()):
            if job.wish.enough.is_set():
                self._finish(ticket, job, job.step("stop text"))
            elif job.over():
                late = Refusal(504, "The time of the request is over.", kind="timeout_error")
                self._finish(ticket, job, late)

    def _told(self, event: Event) -> None:
        job = self._jobs[event.ticket]
        job.tokens += event.ids
        job.log_p += event.log_probabilities
        job.likeliest += event.likeliest
        if not all(map(math.isfinite, event.log_probabilities)):
            self._finish(event.ticket, job, NotFinite(self._name))
        elif event.reason is not None:
            self._finish(event.ticket, job, job.step(event.reason))
        else:
            job.tell(job.step(None))

    def _finish(self, ticket: int, job: _Job, last: Step | BaseException) -> None:
        self._slots.cancel(ticket)
        del self._jobs[ticket]
        job.tell(last)
