"""What all routes share. In: models by name. Out: a `State` that finds the model a request means and works for it."""

import asyncio
import concurrent.futures
import contextvars
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request

from jaxlm.serve import fields
from jaxlm.serve.device import Device
from jaxlm.serve.fields import Body
from jaxlm.serve.limits import Asked, Limits, Refusal
from jaxlm.serve.metrics import Metrics
from jaxlm.serve.queued import asking
from jaxlm.serve.uses import Served
from jaxlm.serve.writer import Writer

_ANY = ("", "dummy", "tgi")  # what clients of Hugging Face send that were told no name
_THREADS = 64  # requests that are read and computed at once; the others wait for one of them


class State:
    """One server."""

    def __init__(
        self, limits: Limits, metrics: Metrics, device: Device, models: Mapping[str, Served]
    ) -> None:
        self.limits, self.metrics, self.device, self.models = limits, metrics, device, models
        self.ready = self.draining = False
        self.under_way = 0
        self.created = int(time.time())
        self.failed = ""  # why it cannot get ready
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="request")

    @property
    def writers(self) -> list[Writer]:
        """Those of all models, each once."""
        return list({id(one.writer): one.writer for one in self.models.values() if one.writer}.values())

    def model(self, request: Request, name: Any, use: str) -> Served:
        """The model that a request names, or without a name the first that does it. Refusal where there is none."""
        if name is not None and not isinstance(name, str):
            raise fields.wrong("model", f"must be a string, and is {str(name)[:60]!r}.")
        if name is None or name in _ANY:
            found = next((one for one in self.models.values() if use in one.does), None)
            found = found or next(iter(self.models.values()))
        elif name in self.models:
            found = self.models[name]
        else:
            there = ", ".join(self.models)
            raise fields.wrong(
                "model", f"there is no {name[:80]!r}; models: {there}.", status=404, code="model_not_found"
            )
        request.state.asked.model = found.name
        found.require(use)
        return found

    async def body(self, request: Request) -> Body:
        """What the client sent."""
        return await fields.body(request, self.limits)

    async def do(self, request: Request, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)` in a thread, for as long as the client is there and its time lasts."""
        asked: Asked = request.state.asked
        context = contextvars.copy_context()
        context.run(asking.set, asked)
        loop = asyncio.get_running_loop()
        within = functools.partial(context.run, _in_time, asked, function, *arguments)
        work = loop.run_in_executor(self._pool, within)
        return await self.follow(request, work)

    async def follow(self, request: Request, work: asyncio.Future[Any]) -> Any:
        """The result of what is under way; when the client is gone, or the time is over, nobody waits for it."""
        asked: Asked = request.state.asked
        gone = asyncio.ensure_future(_disconnected(request))
        left = max(asked.until - time.monotonic(), 0.0) + 1.0  # the device notices first
        try:
            await asyncio.wait({work, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            asked.gone.set()
            work.add_done_callback(lambda one: one.cancelled() or one.exception())
            work.cancel()
            if gone.done():
                raise Refusal(499, "the client is gone.", kind="timeout_error")
            raise Refusal(504, "the time of the request is over.", kind="timeout_error")
        finally:
            gone.cancel()

    def close(self) -> None:
        """Ends its threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.device.close()
        for writer in self.writers:
            writer.close()


def _in_time(asked: Asked, function: Callable[..., Any], *arguments: Any) -> Any:
    if asked.over:
        raise Refusal(504, "the time of the request was over before it was begun.", kind="timeout_error")
    return function(*arguments)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
