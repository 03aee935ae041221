"""The routes of text-embeddings-inference. In: `inputs`, or a query and texts. Out: vectors, labels, ranks."""

from typing import Any

import numpy as np
from starlette.requests import Request

from jaxlm.serve import fields
from jaxlm.serve.answer import Json, number
from jaxlm.serve.limits import Refusal
from jaxlm.serve.state import State
from jaxlm.serve.uses import CLASSIFY, EMBED, RANK, Served


async def embed(state: State, request: Request) -> Json:
    """POST /embed: a vector for every text."""
    found = await state.body(request)
    return await embedded(state, request, found, found.get("model"))


async def predict(state: State, request: Request) -> Json:
    """POST /predict: the labels of texts or pairs, the likeliest first."""
    found = await state.body(request)
    return await predicted(state, request, found, found.get("model"), whole=False)


async def rerank(state: State, request: Request) -> Json:
    """POST /rerank: how well each of `texts` goes with `query`, the best first."""
    found = await state.body(request)
    model = state.model(request, found.get("model"), RANK)
    query, texts = fields.text(found, "query"), fields.texts(found.get("texts"), "texts", state.limits)
    _, values, _ = await state.do(request, model.judged, [(query, text) for text in texts])
    raw = [number(one["predicted"]) for one in values]
    scores = raw if fields.flag(found, "raw_scores", False) else [1 / (1 + np.exp(-one)) for one in raw]
    order = sorted(range(len(texts)), key=lambda k: -scores[k])
    more = (lambda k: {"text": texts[k]}) if fields.flag(found, "return_text", False) else (lambda k: {})
    return Json([{"index": k, "score": number(scores[k])} | more(k) for k in order])


async def info(state: State, request: Request) -> Json:
    """GET /info: of the first model what text-embeddings-inference says, and of all their names and uses."""
    first = next(iter(state.models.values()))
    kind = (
        {"embedding": {"pooling": first.reading.pooling}}
        if first.reading
        else {use: {} for use in first.does}
    )
    about = {
        "model_id": first.name,
        "model_sha": None,
        "model_dtype": first.ready.model.dtype,
        "model_type": kind,
        "max_input_length": first.reading.length if first.reading else first.ready.row_length,
        "max_concurrent_requests": state.limits.queue,
        "max_client_batch_size": state.limits.texts,
        "max_batch_requests": state.limits.batch,
        "models": {one.name: sorted(one.does) for one in state.models.values()},
    }
    return Json(about)


async def embedded(state: State, request: Request, found: fields.Body, name: Any) -> Json:
    """A vector for every one of `inputs`."""
    model = state.model(request, name, EMBED)
    texts = fields.texts(found.get("inputs"), "inputs", state.limits)
    if not fields.flag(found, "normalize", True):
        raise fields.wrong("normalize", "vectors have length 1 here. Leave it out.", code="unsupported")
    fields.refuse(found, ("prompt_name", "truncation_direction", "dimensions"), (None, "Right", "right"))
    if not fields.flag(found, "truncate", True):
        await state.do(request, _check_lengths, model, texts)
    vectors = await state.do(request, model.vectors, texts)
    return Json(vectors.tolist())


async def predicted(
    state: State, request: Request, found: fields.Body, name: Any, whole: bool = True
) -> Json:
    """Labels of `inputs`; `whole`: a list of lists also of one text, as Hugging Face's endpoints have it."""
    model = state.model(request, name, CLASSIFY)
    items, several = _items(found.get("inputs"), state)
    task, values, asked = await state.do(request, model.judged, items)
    if not task.labels:
        each = [[{"label": "score", "score": number(one["predicted"])}] for one in values]
    else:
        each = [_labels(task.labels, one) for one in asked]
    top = fields.integer(parameters(found), "top_k", None, 1, 10**6)
    each = [one[:top] for one in each]
    return Json(each if several or whole else each[0])


def _check_lengths(model: Served, texts: list[str]) -> None:
    assert model.reading is not None
    longest = max(model.lengths(texts))
    if longest > model.reading.length:
        said = f"a text has {longest} tokens, and the model reads {model.reading.length}. With truncate it is cut."
        raise Refusal(413, said, kind="Validation", param="inputs")


def _items(given: Any, state: State) -> tuple[list[tuple[str, ...]], bool]:
    """A text, a pair [a, b], or a batch [[a], [a, b], ...]; whether it is a batch."""
    if isinstance(given, str):
        return [(given,)], False
    whole = isinstance(given, list) and bool(given) and isinstance(given[0], list)
    found = [tuple(fields.texts(one, "inputs", state.limits)) for one in (given if whole else [given])]
    return fields.check_number(found, "inputs", state.limits), whole


def _labels(labels: tuple[str, ...], shares_K: Any) -> list[dict[str, Any]]:
    each = [{"label": label, "score": number(share)} for label, share in zip(labels, shares_K, strict=True)]
    return sorted(each, key=lambda one: -one["score"])


def parameters(found: fields.Body) -> fields.Body:
    """`parameters`, and beside them what stands at the top."""
    given = found.get("parameters") or {}
    if not isinstance(given, dict):
        raise fields.wrong("parameters", "must be an object.")
    return {**found, **given}
