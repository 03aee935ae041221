"""What clients of Hugging Face's inference endpoints ask for. In: `inputs` and `parameters`. Out: a task's answers.

`InferenceClient` posts to the very URL it was given, so that `/` and `/models/NAME` do what a model is for.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from jaxlm.serve import fields, tei, tgi
from jaxlm.serve.answer import Json, number
from jaxlm.serve.state import State
from jaxlm.serve.uses import ANSWER, CLASSIFY, EMBED, FILL, TAG, WRITE


async def root(state: State, request: Request) -> Any:
    """POST / and /models/NAME: what the model is for, or where vectors are compared the cosines."""
    found = await state.body(request)
    name = request.path_params.get("name", found.get("model"))
    first = next(iter(state.models.values()))
    model = state.models.get(name, first) if isinstance(name, str) else first
    inputs = found.get("inputs")
    if isinstance(inputs, dict) and "source_sentence" in inputs:
        return await _similarity(state, request, found, name)
    for use, answer in _FOR.items():
        if use in model.does:
            return await answer(state, request, found, name)
    raise AssertionError(model.does)


async def _similarity(state: State, request: Request, found: fields.Body, name: Any) -> Json:
    model = state.model(request, name, EMBED)
    inputs = found.get("inputs")
    if not isinstance(inputs, dict):
        raise fields.wrong("inputs", "must be {source_sentence, sentences}.")
    others = fields.texts(inputs.get("sentences"), "sentences", state.limits)
    one, *rest = await state.do(request, model.vectors, [fields.text(inputs, "source_sentence"), *others])
    return Json([number(one @ other) for other in rest])


async def _fill(state: State, request: Request, found: fields.Body, name: Any) -> Json:
    model = state.model(request, name, FILL)
    texts = fields.texts(found.get("inputs"), "inputs", state.limits)
    parameters = tei.parameters(found)
    fields.refuse(parameters, ("targets",))
    top = fields.integer(parameters, "top_k", 5, 1, 100)
    known, mask = model.ready.tokenizer, model.ready.tokenizer.vocabulary.mask
    each = []
    for text, masks in zip(texts, await state.do(request, model.filled, texts, top), strict=True):
        own = text.replace("[MASK]", known.token(mask))
        said = [
            [
                {
                    "score": number(share),
                    "token": known._ids[token],
                    "token_str": known.decode([known._ids[token]]) or token,
                    "sequence": _with(own, known.token(mask), at, known.decode([known._ids[token]]) or token),
                }
                for token, share in one.candidates
            ]
            for at, one in enumerate(masks)
        ]
        each.append(said[0] if len(said) == 1 else said)
    return Json(each[0] if isinstance(found.get("inputs"), str) else each)


async def _tags(state: State, request: Request, found: fields.Body, name: Any) -> Json:
    model = state.model(request, name, TAG)
    texts = fields.texts(found.get("inputs"), "inputs", state.limits)
    _, values, _ = await state.do(request, model.judged, [(text,) for text in texts])
    each = [
        [
            {"entity_group": one["label"], "word": one["text"], "start": one["start"], "end": one["end"]}
            | {
                "score": None
            }  # the likeliest sequence of tags is chosen as a whole: a span has no probability
            for one in value["spans"]
        ]
        for value in values
    ]
    return Json(each[0] if isinstance(found.get("inputs"), str) else each)


async def _answer(state: State, request: Request, found: fields.Body, name: Any) -> Json:
    model = state.model(request, name, ANSWER)
    inputs = found.get("inputs")
    if not isinstance(inputs, dict):
        raise fields.wrong("inputs", "must be {question, context}.")
    item = fields.text(inputs, "question"), fields.text(inputs, "context")
    _, (value,), _ = await state.do(request, model.judged, [item])
    start, end = value["place"] or (0, 0)
    said = {"answer": value["predicted"], "score": number(value["probability"]), "start": start, "end": end}
    return Json(said)


def _with(text: str, mask: str, at: int, token: str) -> str:
    """The text with one of its masks filled."""
    parts = text.split(mask)
    return mask.join(parts[: at + 1]) + token + mask.join(parts[at + 1 :])


# The first of these that a model does is what it is for.
_FOR = {
    FILL: _fill,
    CLASSIFY: tei.predicted,
    TAG: _tags,
    ANSWER: _answer,
    WRITE: tgi.written,
    EMBED: tei.embedded,
}


def _route(answer: Callable[..., Awaitable[Json]]) -> Callable[[State, Request], Awaitable[Json]]:
    """A route of its own, whose body names the model."""

    async def route(state: State, request: Request) -> Json:
        found = await state.body(request)
        return await answer(state, request, found, found.get("model"))

    return route


similarity = _route(_similarity)  # POST /similarity: cosines of a sentence with others
fill_mask = _route(_fill)  # POST /fill-mask: the likeliest tokens for [MASK]
tags = _route(_tags)  # POST /token-classification: spans with a label each
answer = _route(_answer)  # POST /question-answering: the part of a context that answers a question
