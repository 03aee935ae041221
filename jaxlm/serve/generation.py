"""Writing for a request. In: what it says of its text. Out: pieces of one answer or several, as they come."""

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request

from jaxlm.errors import UserError
from jaxlm.infer import generate
from jaxlm.infer.sampling import Sampling
from jaxlm.serve import fields
from jaxlm.serve.limits import Asked, NotFinite, Refusal
from jaxlm.serve.state import State
from jaxlm.serve.telling import Piece, told
from jaxlm.serve.uses import Served
from jaxlm.serve.writer import Wish

_SEEDS = 2**32
MOST = 16  # answers to a prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be written."""

    model: Served
    prompts: Sequence[Sequence[int]]
    wish: Wish
    n: int  # answers to each
    stop: Sequence[str]

    @property
    def read(self) -> int:
        """Tokens of the prompts."""
        return sum(map(len, self.prompts))


def order(
    found: fields.Body,
    model: Served,
    prompts: Sequence[Sequence[int]],
    around: Any,
    *,
    new_tokens: int | None,
    default: int,
    temperature: float,
    likeliest: int = 0,
) -> Order:
    """The fields that OpenAI and Hugging Face call the same. Refusal for what cannot be read or is not done."""
    config = model.ready.model.config
    longest = getattr(config, "max_positions", model.ready.row_length)
    stop = found.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(one, str) and one for one in stop) or len(stop) > 16:
        raise fields.wrong("stop", "must be a string, or at most 16 of them, none empty.")
    seed = fields.integer(found, "seed", None, -(2**63), 2**63)
    how = Sampling(
        temperature=fields.number(found, "temperature", temperature, 0.0, 100.0),
        top_k=max(fields.integer(found, "top_k", 0, -1, 10**9), 0),
        top_p=fields.number(found, "top_p", 1.0, 1e-6, 1.0),
        min_p=fields.number(found, "min_p", 0.0, 0.0, 1.0),
        repetition_penalty=fields.number(found, "repetition_penalty", 1.0, 0.01, 100.0),
    )
    _check(config, prompts, around, max(longest, model.ready.row_length))
    wish = Wish(
        frame=around,
        new_tokens=_fitting(model, prompts, around, min(new_tokens or default, longest)),
        sampling=how,
        seed=secrets.randbelow(_SEEDS) if seed is None else seed % _SEEDS,
        adapter=model.adapter,
        likeliest=likeliest,
    )
    return Order(model=model, prompts=prompts, wish=wish, n=fields.integer(found, "n", 1, 1, MOST), stop=stop)


def _fitting(model: Served, prompts: Sequence[Sequence[int]], around: Any, new_tokens: int) -> int:
    """So many tokens, or those that the writer has room for behind the longest prompt."""
    assert model.writer is not None
    read = 0 if around.encoder_decoder else max(map(len, prompts)) + len(around.before) + len(around.after)
    if (left := model.writer.room - read) < 1:
        said = f"a prompt has {read} tokens, and the server has room for {model.writer.room} with its answer."
        raise Refusal(400, said, param="prompt", code="context_length_exceeded")
    return min(new_tokens, left)


def _check(config: Any, prompts: Sequence[Sequence[int]], around: Any, longest: int) -> None:
    code = "context_length_exceeded"
    if (most := max(map(len, prompts))) > longest:
        raise Refusal(
            400, f"a prompt has {most} tokens, and the model reads {longest}.", param="prompt", code=code
        )
    try:
        generate.framed(config, prompts, around, new_tokens=1)
    except UserError as error:
        raise Refusal(400, str(error), param="prompt", code=code) from error


async def written(state: State, request: Request, asked: Order) -> AsyncIterator[tuple[int, Piece]]:
    """(number of the answer, piece): answers to the first prompt come first. Each ends with a piece with `finish`."""
    under_way = request.state.asked
    under_way.read += asked.read
    pieces = asyncio.Queue[tuple[int, Piece | BaseException]]()

    async def one(number: int) -> None:
        ids = asked.prompts[number // asked.n]
        wish = dataclasses.replace(asked.wish, seed=(asked.wish.seed + number) % _SEEDS)
        wish = dataclasses.replace(wish, enough=type(wish.enough)())
        model, writer = asked.model.on(1), asked.model.writer
        assert writer is not None
        try:
            steps = writer.submit(model, ids, wish, under_way)
            async with contextlib.aclosing(steps):  # pyright: ignore[reportArgumentType]
                async for piece in told(steps, model.tokenizer, wish, ids, asked.stop):
                    pieces.put_nowait((number, piece))
        except Exception as error:
            pieces.put_nowait((number, error))

    left = asked.n * len(asked.prompts)
    tasks = [asyncio.ensure_future(one(number)) for number in range(left)]
    try:
        while left:
            number, piece = await pieces.get()
            if isinstance(piece, BaseException):
                raise piece
            _count(state, under_way, piece)
            left -= piece.finish is not None
            yield number, piece
    except NotFinite:
        state.metrics.not_finite.inc()
        raise
    finally:
        for task in tasks:
            task.cancel()


def _count(state: State, asked: Asked, piece: Piece) -> None:
    if piece.count and not asked.begun:
        state.metrics.first.observe(time.monotonic() - asked.since)
        asked.begun = True
    if piece.finish is not None:
        asked.written += piece.count


async def whole(state: State, request: Request, asked: Order) -> list[tuple[str, Piece]]:
    """Of every answer its text and last piece; for as long as the client is there."""
    texts: dict[int, list[str]] = {}
    last: dict[int, Piece] = {}

    async def collect() -> None:
        async for number, piece in written(state, request, asked):
            texts.setdefault(number, []).append(piece.text)
            last[number] = piece

    await state.follow(request, asyncio.ensure_future(collect()))
    return [("".join(texts[number]), last[number]) for number in sorted(last)]
