"""Answers as bytes. In: values. Out: JSON without NaN (there is none in it: the device refuses them), or events."""

import math
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse


class Json(Response):
    """JSON; msgspec writes NaN as null, so numbers are finite before they come here."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """As Starlette calls it."""
        return msgspec.json.encode(content)


def number(value: Any) -> float:
    """A float. ArithmeticError for what is none: the device lets through only what is finite."""
    found = float(value)
    if not math.isfinite(found):
        raise ArithmeticError("an answer is not finite")
    return found


class Ended(Exception):
    """Nothing more is said: what went wrong was said already."""


def events(said: AsyncIterator[Any], *, last: bool) -> StreamingResponse:
    """Server-sent events, each a JSON value; `last`: whether [DONE] stands at the end."""

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for one in said:
                yield b"data: " + msgspec.json.encode(one) + b"\n\n"
        except Ended:
            return
        if last:
            yield b"data: [DONE]\n\n"

    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)
