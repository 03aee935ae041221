"""One thread that owns the device. In: rows of ids of many requests, and the program each is for. Out: its results.

Rows of one program and one length wait together and are computed together: the longest waiting first, with as many
of its kind as there are, in heights that are compiled already. A row that is alone is not kept waiting for others
unless the last batch had some. A row whose client is gone is left out.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.infer.loaded import Loaded
from jaxlm.infer.predict import Ask, Predictor, size
from jaxlm.serve.limits import Asked, Limits, NotFinite, Refusal
from jaxlm.serve.metrics import Metrics

Program = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Work:
    """A program over a model's rows."""

    predictor: Loaded
    program: Program
    targets: Ask
    sample: Sequence[int]  # the first row that was asked of it
    name: str  # of the model


class Ticket:
    """The rows of one call, until all are computed."""

    def __init__(self, asked: Asked, rows: int) -> None:
        self.asked = asked
        self.found: list[Any] = [None] * rows
        self.error: BaseException | None = None
        self.left = rows
        self.done = threading.Event()

    def finish(self, number: int, result: Any) -> None:
        """One row's result, or what came in its place."""
        if isinstance(result, BaseException):
            self.error = result
        self.found[number] = result
        self.left -= 1
        if self.left == 0 or self.error is not None:
            self.done.set()


@dataclasses.dataclass
class _Row:
    ids: Sequence[int]
    which: int | None  # adapter
    number: int  # among those of its ticket
    ticket: Ticket
    since: float


class Device:
    """The queue and its thread."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.works: dict[Hashable, Work] = {}
        self._queues = collections.defaultdict[tuple[Hashable, int], collections.deque[_Row]](
            collections.deque
        )
        self._changed = threading.Condition()
        self._waiting, self._last, self._open = 0, 1, True
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def ask(self, work: Work, rows: Sequence[Sequence[int]], asked: Asked) -> list[Any]:
        """The results of rows, in order; blocks. Refusal for what comes too late or is not finite."""
        if not rows:
            return []
        ticket, now = Ticket(asked, len(rows)), time.monotonic()
        which = work.predictor.which or (None,) * len(rows)
        key = _key(work)
        asked.read += sum(map(len, rows))
        with self._changed:
            self.works.setdefault(key, dataclasses.replace(work, sample=list(rows[0])))
            for number, (ids, adapter) in enumerate(zip(rows, which, strict=True)):
                width = min(size(len(ids)), work.predictor.row_length)
                self._queues[key, width].append(_Row(ids, adapter, number, ticket, now))
            self._count(len(rows))
            self._changed.notify()
        if not ticket.done.wait(max(asked.until - time.monotonic(), 0.0)):
            asked.gone.set()
            raise Refusal(
                504, "The time of the request was over before it was computed.", kind="timeout_error"
            )
        if ticket.error is not None:
            raise ticket.error
        return ticket.found

    def warm(self, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False) -> None:
        """Compiles every program that was asked for in every shape, so that no request waits for it."""
        for work in list(self.works.values()):
            begin, longest = time.monotonic(), work.predictor.row_length
            widths = sorted({min(size(n), longest) for n in range(1, longest + 1)})
            heights = [1 << k for k in range(self.limits.batch.bit_length())]
            shapes = [(width, height) for width in widths if width >= len(work.sample) for height in heights]

            def compile(shape: tuple[int, int], work: Work = work) -> None:
                width, height = shape
                row = [*work.sample, *[work.sample[-1]] * (width - len(work.sample))]
                if not stopped():
                    self._computed(work, [row] * height, [0] * height)

            with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                list(pool.map(compile, shapes))
            if stopped():
                return
            say(f"{work.name}: {len(shapes)} programs compiled in {time.monotonic() - begin:.1f} s")

    def close(self) -> None:
        """Ends the thread when what it has is done."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join(timeout=10)

    def _count(self, more: int) -> None:
        self._waiting += more
        self.metrics.waiting.set(self._waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and self._open:
                    self._changed.wait()
                if not self._waiting:
                    return
                key, rows = self._taken()
            if rows:
                self._compute(self.works[key[0]], rows)

    def _taken(self) -> tuple[Any, list[_Row]]:
        """The next rows, after a short wait for company if there was some before."""
        key = min((k for k, rows in self._queues.items() if rows), key=lambda k: self._queues[k][0].since)
        queue, most = self._queues[key], self.limits.batch
        until = queue[0].since + (self.limits.wait if self._last > 1 else 0.0)
        while len(queue) < most and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)
        there = [row for row in queue if not row.ticket.asked.over]
        for row in (row for row in queue if row.ticket.asked.over):
            row.ticket.finish(row.number, Refusal(499, "The client is gone.", kind="timeout_error"))
        self.metrics.dropped.inc(len(queue) - len(there))
        taken = there[: min(height(len(there)), most)]
        self._count(len(there) - len(taken) - len(queue))
        self._queues[key] = collections.deque(there[len(taken) :])
        self._last = self._waiting + len(taken)
        return key, taken

    def _compute(self, work: Work, rows: list[_Row]) -> None:
        try:
            found = self._computed(work, [row.ids for row in rows], [row.which for row in rows])
        except Exception as error:  # whatever it is, those who wait are told
            found = [error] * len(rows)
        for row, result in zip(rows, found, strict=True):
            if not isinstance(result, BaseException) and not finite(result):
                self.metrics.not_finite.inc()
                result = NotFinite(work.name)
            row.ticket.finish(row.number, result)
        width = min(size(max(len(row.ids) for row in rows)), work.predictor.row_length)
        read = sum(len(row.ids) for row in rows)
        self.metrics.batches.observe(len(rows))
        self.metrics.tokens.labels("read").inc(read)
        self.metrics.tokens.labels("padding").inc((1 << (len(rows) - 1).bit_length()) * width - read)

    def _computed(self, work: Work, rows: list[Sequence[int]], which: Sequence[Any]) -> list[Any]:
        predictor = work.predictor
        if predictor.which:
            predictor = dataclasses.replace(predictor, which=tuple(which))
        most = self.limits.batch
        return Predictor.by_row(predictor, work.program, rows, targets=work.targets, batch_size=most)


def height(rows: int) -> int:
    """How many of so many rows are computed next: all, if that fills three quarters of a batch of a power of two, else
    the next smaller power."""
    whole = 1 << max(rows - 1, 0).bit_length()
    return rows if 4 * rows >= 3 * whole else whole // 2


def finite(result: Any) -> bool:
    """Whether every number of a result is one."""
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


def _key(work: Work) -> Hashable:
    """Equal for what can be computed together: the same program, with the same settings, of the same weights."""
    return (id(work.predictor.params), bool(work.predictor.which), _same(work.program), _same(work.targets))


def _same(value: Any) -> Hashable:
    if isinstance(value, functools.partial):
        settings = tuple((name, _same(value.keywords[name])) for name in sorted(value.keywords))
        return (_same(value.func), tuple(map(_same, value.args)), settings)
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
