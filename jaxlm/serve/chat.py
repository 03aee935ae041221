"""OpenAI's two ways to a text: a prompt that goes on, and a conversation. In: requests. Out: answers, or events."""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request

from jaxlm.errors import UserError
from jaxlm.infer import frame
from jaxlm.serve import fields, generation
from jaxlm.serve.answer import Ended, Json, events
from jaxlm.serve.generation import Order
from jaxlm.serve.guard import told
from jaxlm.serve.limits import Refusal
from jaxlm.serve.state import State
from jaxlm.serve.telling import Piece
from jaxlm.serve.uses import WRITE, Served

# What would change an answer and is not done; what is neutral may be sent.
_NOT_DONE = (
    "tools",
    "functions",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
    "audio",
)
_FORMATS = (None, {"type": "text"})


async def completions(state: State, request: Request) -> Any:
    """POST /v1/completions. `prompt`: a text, texts, ids or lists of them."""
    found = await state.body(request)
    model = state.model(request, found.get("model"), WRITE)
    fields.refuse(found, (*_NOT_DONE, "echo", "suffix"), (None, False, [], {}, 0, ""))
    fields.refuse(found, ("best_of",), (None, 1))
    prompt, around = found.get("prompt"), model.frame
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], str):
        prompts = fields.ids(prompt, "prompt", model.ready.tokenizer.size, state.limits)
    else:
        texts = fields.texts(prompt, "prompt", state.limits)
        prompts = await state.do(request, _prompts, model, texts)
    tokens = fields.integer(found, "max_tokens", None, 1, 10**9)
    most, probable = _likeliest(found, "logprobs", model), found.get("logprobs") is not None
    how = {"new_tokens": tokens, "default": 16, "temperature": 1.0, "likeliest": most}
    asked = generation.order(found, model, prompts, around, **how)
    return await _answered(state, request, found, asked, _Completion(model, probable))


async def chat(state: State, request: Request) -> Any:
    """POST /v1/chat/completions."""
    found = await state.body(request)
    model = state.model(request, found.get("model"), WRITE)
    fields.refuse(found, _NOT_DONE)
    fields.refuse(found, ("response_format",), _FORMATS)
    fields.refuse(found, ("modalities",), (None, ["text"]))
    messages = _messages(found.get("messages"))
    if model.talking is None:
        raise Refusal(
            400,
            f"model {model.name} has no chat template. POST /v1/completions takes its prompts as they are.",
            param="model",
            code="no_chat_template",
        )
    prompt = await state.do(request, _conversation, model, messages)
    given = fields.integer(found, "max_tokens", None, 1, 10**9)
    tokens = fields.integer(found, "max_completion_tokens", given, 1, 10**9)
    most, probable = _likeliest(found, "top_logprobs", model), fields.flag(found, "logprobs", False)
    how = {"new_tokens": tokens, "default": 256, "temperature": 1.0, "likeliest": most if probable else 0}
    asked = generation.order(found, model, [prompt], model.talking, **how)
    return await _answered(state, request, found, asked, _Chat(model, probable))


def _likeliest(found: fields.Body, name: str, model: Served) -> int:
    """How many of the likeliest tokens are told at every place, beside the one that was chosen."""
    assert model.writer is not None
    return fields.integer(found, name, 0, 0, model.writer.likeliest)


def _prompts(model: Served, texts: Sequence[str]) -> list[list[int]]:
    assert model.frame is not None
    return [frame.asking(model.ready.tokenizer, model.frame, text) for text in texts]


def _messages(given: Any) -> list[tuple[str, str]]:
    if not isinstance(given, list) or not given:
        raise fields.wrong("messages", "must be a list of {role, content} that is not empty.")
    return [_message(one, f"messages[{k}]") for k, one in enumerate(given)]


def _message(one: Any, name: str) -> tuple[str, str]:
    """(role, content); of parts, which must be text, the whole."""
    if not isinstance(one, dict):
        raise fields.wrong(name, "must be an object with role and content.")
    fields.refuse(one, ("tool_calls", "function_call", "audio"))
    role, content = fields.text(one, "role"), one.get("content")
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
            for part in content
        ]
        if not all(isinstance(part, str) for part in parts):
            raise fields.wrong(name, "only parts of the type text are read here.", code="unsupported")
        content = "".join(map(str, parts))
    if not isinstance(content, str):
        raise fields.wrong(name, "content must be a string, or a list of parts of the type text.")
    return ("system" if role == "developer" else role), content


def _conversation(model: Served, messages: Sequence[tuple[str, str]]) -> list[int]:
    """Ids of the conversation up to its answer."""
    tokenizer = model.ready.tokenizer
    assert tokenizer.chat is not None
    try:
        return tokenizer.encode_marked(tokenizer.chat.render(messages, ask=True, where="messages"))
    except UserError as error:
        raise Refusal(400, str(error), param="messages") from error


class _Form:
    """The words of one route."""

    identity: str
    whole: str  # object of an answer, and of a part of it
    part: str

    def __init__(self, model: Served, probable: bool) -> None:
        self.model, self.probable = model, probable
        self.base = {
            "id": f"{self.identity}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model.name,
        }

    def begin(self) -> list[dict[str, Any]]:
        """What stands before the first piece."""
        return []

    def answer(self, text: str, piece: Piece) -> dict[str, Any]:
        """A whole answer."""
        raise NotImplementedError

    def delta(self, piece: Piece) -> list[dict[str, Any]]:
        """A piece of one."""
        raise NotImplementedError

    def _token(self, id: int) -> str:
        return self.model.ready.tokenizer.decode([id]) or self.model.ready.tokenizer.token(id)


class _Completion(_Form):
    identity, whole, part = "cmpl", "text_completion", "text_completion"

    def answer(self, text: str, piece: Piece) -> dict[str, Any]:
        return {"text": text, "logprobs": self._probabilities(piece), "finish_reason": piece.finish}

    def delta(self, piece: Piece) -> list[dict[str, Any]]:
        return [self.answer(piece.text, piece)]

    def _probabilities(self, piece: Piece) -> dict[str, Any] | None:
        if not self.probable or not piece.tokens:
            return None
        names = [self._token(id) for id in piece.tokens]
        offsets = [sum(map(len, names[:k])) for k in range(len(names))]
        best = piece.likeliest or [()] * len(names)
        each = [
            {self._token(id): q for id, q in some} | {name: p}
            for name, p, some in zip(names, piece.log_p, best, strict=True)
        ]
        return {"tokens": names, "token_logprobs": piece.log_p, "top_logprobs": each, "text_offset": offsets}


class _Chat(_Form):
    identity, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def begin(self) -> list[dict[str, Any]]:
        return [{"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}]

    def answer(self, text: str, piece: Piece) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"message": message, "logprobs": self._probabilities(piece), "finish_reason": piece.finish}

    def delta(self, piece: Piece) -> list[dict[str, Any]]:
        said = (
            [{"delta": {"content": piece.text}, "logprobs": None, "finish_reason": None}]
            if piece.text
            else []
        )
        if piece.finish:
            end = {"delta": {}, "logprobs": self._probabilities(piece), "finish_reason": piece.finish}
            said.append(end)
        return said

    def _probabilities(self, piece: Piece) -> dict[str, Any] | None:
        if not self.probable or not piece.tokens:
            return None
        best = piece.likeliest or [()] * len(piece.tokens)
        each = [
            self._one(id, p) | {"top_logprobs": [self._one(*pair) for pair in some]}
            for id, p, some in zip(piece.tokens, piece.log_p, best, strict=True)
        ]
        return {"content": each, "refusal": None}

    def _one(self, id: int, p: float) -> dict[str, Any]:
        name = self._token(id)
        return {"token": name, "bytes": list(name.encode()), "logprob": p}


async def _answered(state: State, request: Request, found: fields.Body, asked: Order, form: _Form) -> Any:
    if fields.flag(found, "stream", False):
        options = found.get("stream_options") or {}
        counted = isinstance(options, dict) and bool(options.get("include_usage"))
        return events(_stream(state, request, asked, form, counted), last=True)
    answers = await generation.whole(state, request, asked)
    choices = [{"index": k} | form.answer(text, piece) for k, (text, piece) in enumerate(answers)]
    usage = _usage(asked, sum(piece.count for _, piece in answers))
    return Json(form.base | {"object": form.whole, "choices": choices, "usage": usage})


async def _stream(
    state: State, request: Request, asked: Order, form: _Form, counted: bool
) -> AsyncIterator[dict[str, Any]]:
    said = lambda number, one: form.base | {"object": form.part, "choices": [{"index": number} | one]}
    written = 0
    begun = set[int]()
    try:
        async for number, piece in generation.written(state, request, asked):
            for one in (*(form.begin() if number not in begun else ()), *form.delta(piece)):
                yield said(number, one)
            begun.add(number)
            written += piece.count if piece.finish else 0
    except Exception as error:  # the status is with the client already
        yield told(error).to_json("openai")
        raise Ended from error
    if counted:
        yield form.base | {"object": form.part, "choices": [], "usage": _usage(asked, written)}


def _usage(asked: Order, written: int) -> dict[str, int]:
    return {
        "prompt_tokens": asked.read,
        "completion_tokens": written,
        "total_tokens": asked.read + written,
    }
