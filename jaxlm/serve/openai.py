"""What OpenAI's clients ask for beside texts: embeddings and the list of models."""

import base64
from typing import Any

import numpy as np
from starlette.requests import Request

from jaxlm.serve import fields
from jaxlm.serve.answer import Json
from jaxlm.serve.state import State
from jaxlm.serve.uses import EMBED, Served


async def embeddings(state: State, request: Request) -> Json:
    """POST /v1/embeddings. `input`: a text, texts, ids or lists of them; OpenAI's own client asks for base64."""
    found = await state.body(request)
    model = state.model(request, found.get("model"), EMBED)
    form = fields.text(found, "encoding_format", "float")
    if form not in ("float", "base64"):
        raise fields.wrong("encoding_format", "float or base64.")
    given = found.get("input")
    if isinstance(given, list) and given and not isinstance(given[0], str):
        ids = fields.ids(given, "input", model.ready.tokenizer.size, state.limits)
        vectors = await state.do(request, model.vectors_of_ids, ids)
    else:
        texts = fields.texts(given, "input", state.limits)
        vectors = await state.do(request, model.vectors, texts)
    _check_dimensions(found, vectors.shape[1])
    data = [
        {"object": "embedding", "index": k, "embedding": _said(one, form)} for k, one in enumerate(vectors)
    ]
    read = request.state.asked.read
    usage = {"prompt_tokens": read, "total_tokens": read}
    return Json({"object": "list", "data": data, "model": model.name, "usage": usage})


async def models(state: State, request: Request) -> Json:
    """GET /v1/models."""
    return Json({"object": "list", "data": [_about(state, one) for one in state.models.values()]})


async def model(state: State, request: Request) -> Json:
    """GET /v1/models/NAME."""
    name = request.path_params["name"]
    if name not in state.models:
        raise fields.wrong("model", f"there is no {name[:80]!r}.", status=404, code="model_not_found")
    return Json(_about(state, state.models[name]))


def _about(state: State, one: Served) -> dict[str, Any]:
    about = {"id": one.name, "object": "model", "created": state.created, "owned_by": "jaxlm"}
    return about | {"does": sorted(one.does)}


def _check_dimensions(found: fields.Body, size: int) -> None:
    """A vector cut short is worth something only where training saw to it, which no model here says."""
    if (asked := fields.integer(found, "dimensions", None, 1, 2**31)) not in (None, size):
        raise fields.wrong(
            "dimensions", f"vectors of this model have {size} numbers, and {asked} are asked for."
        )


def _said(vector: np.ndarray, form: str) -> Any:
    if form == "float":
        return vector.tolist()
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
