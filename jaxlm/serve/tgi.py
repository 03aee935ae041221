"""Text generation in the words of Hugging Face's endpoints (text-generation-inference). In: `inputs`. Out: text."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from jaxlm.serve import fields, generation
from jaxlm.serve.answer import Json, events
from jaxlm.serve.generation import Order
from jaxlm.serve.state import State
from jaxlm.serve.telling import Piece
from jaxlm.serve.uses import WRITE, Served


async def written(state: State, request: Request, found: fields.Body, name: Any) -> Any:
    """{inputs, parameters, stream}: {generated_text}, or a token at a time."""
    model = state.model(request, name, WRITE)
    given = found.get("parameters") or {}
    if not isinstance(given, dict):
        raise fields.wrong("parameters", "must be an object.")
    # What its client sends if it was told to do nothing special.
    fields.refuse(
        given,
        ("grammar", "watermark", "typical_p", "best_of", "top_n_tokens", "adapter_id"),
        (None, False, 1),
    )
    ids = await state.do(request, model.ready.tokenizer.encode_marked, fields.text(found, "inputs"))
    asked = generation.order(
        given,
        model,
        [ids],
        model.frame,
        new_tokens=fields.integer(given, "max_new_tokens", None, 1, 10**9),
        default=20,
        temperature=1.0 if fields.flag(given, "do_sample", False) else 0.0,
    )
    if fields.flag(found, "stream", False):
        return events(_tokens(state, request, asked), last=False)
    ((text, piece),) = await generation.whole(state, request, asked)
    begun = fields.text(found, "inputs") if fields.flag(given, "return_full_text", False) else ""
    said: dict[str, Any] = {"generated_text": begun + text}
    if fields.flag(given, "details", False):
        said["details"] = {
            "finish_reason": _ended(piece),
            "generated_tokens": piece.count,
            "seed": asked.wish.seed,
        }
        said["details"] |= {"prefill": [], "tokens": _each(model, piece)}
    return Json([said])


def _each(model: Served, piece: Piece) -> list[dict[str, Any]]:
    text = model.ready.tokenizer
    pairs = zip(piece.tokens, piece.log_p, strict=True)
    return [
        {"id": id, "text": text.decode([id]), "logprob": p, "special": not text.decode([id])}
        for id, p in pairs
    ]


async def _tokens(state: State, request: Request, asked: Order) -> AsyncIterator[Any]:
    texts = []
    async for _, piece in generation.written(state, request, asked):
        texts.append(piece.text)
        token = {
            "id": piece.tokens[-1] if piece.tokens else 0,
            "text": piece.text,
            "logprob": 0.0,
            "special": False,
        }
        end = {"generated_text": None, "details": None}
        if piece.finish:
            details = {
                "finish_reason": _ended(piece),
                "generated_tokens": piece.count,
                "seed": asked.wish.seed,
            }
            end = {"generated_text": "".join(texts), "details": details}
        yield {"index": piece.count, "token": token} | end


def _ended(piece: Piece) -> str:
    """In the words of text-generation-inference."""
    return "length" if piece.finish == "length" else "eos_token"
