"""KServe's open inference protocol, version 2. In: a tensor `text` of BYTES. Out: tensors of what the model is for."""

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from jaxlm.serve import fields
from jaxlm.serve.answer import Json
from jaxlm.serve.limits import Refusal
from jaxlm.serve.state import State
from jaxlm.serve.uses import CLASSIFY, EMBED, Served

_USES = (EMBED, CLASSIFY)


async def live(state: State, request: Request) -> Response:
    """GET /v2/health/live: 200 for as long as the process answers and did not fail."""
    return Response(status_code=500 if state.failed else 200)


async def ready(state: State, request: Request) -> Response:
    """GET /v2/health/ready and /health: 200 when requests are taken, else 503."""
    return Response(status_code=200 if state.ready and not state.draining else 503)


async def server(state: State, request: Request) -> Json:
    """GET /v2."""
    return Json({"name": "jaxlm", "version": "2", "extensions": []})


async def model_ready(state: State, request: Request) -> Response:
    """GET /v2/models/NAME/ready."""
    _named(state, request)
    return await ready(state, request)


async def model(state: State, request: Request) -> Json:
    """GET /v2/models/NAME."""
    one = _named(state, request)
    outputs = [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in _outputs(one)]
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}] if outputs else []
    return Json(
        {"name": one.name, "versions": ["1"], "platform": "jax", "inputs": inputs, "outputs": outputs}
    )


async def infer(state: State, request: Request) -> Json:
    """POST /v2/models/NAME/infer."""
    if "inference-header-content-length" in request.headers:
        raise Refusal(400, "binary tensors are not read here: send data as JSON.", code="unsupported")
    found = await state.body(request)
    one = state.model(
        request,
        _named(state, request).name,
        next((u for u in _USES if u in _named(state, request).does), EMBED),
    )
    texts = _texts(found, state)
    if EMBED in one.does:
        vectors = await state.do(request, one.vectors, texts)
        outputs = [_tensor("embedding", "FP32", vectors.shape, vectors)]
    else:
        _, values, asked = await state.do(request, one.judged, [(text,) for text in texts])
        numbers = np.stack(asked)
        outputs = [_tensor("scores", "FP32", numbers.shape, numbers)]
        if one.task.labels and isinstance(values[0]["predicted"], str):
            labels = [value["predicted"] for value in values]
            outputs.insert(0, {"name": "label", "datatype": "BYTES", "shape": [len(labels)], "data": labels})
    return Json({"model_name": one.name, "id": found.get("id"), "outputs": outputs})


def _named(state: State, request: Request) -> Served:
    name = request.path_params["name"]
    if name not in state.models:
        raise fields.wrong("model", f"there is no {name[:80]!r}.", status=404, code="model_not_found")
    return state.models[name]


def _outputs(one: Served) -> list[tuple[str, str, list[int]]]:
    if EMBED in one.does:
        return [("embedding", "FP32", [-1, one.ready.model.config.hidden])]
    if CLASSIFY in one.does:
        scores = ("scores", "FP32", [-1, len(one.task.labels) or 1])
        return [("label", "BYTES", [-1]), scores] if one.task.labels else [scores]
    return []


def _texts(found: fields.Body, state: State) -> list[str]:
    given = found.get("inputs")
    one = given[0] if isinstance(given, list) and len(given) == 1 else None
    if not isinstance(one, dict) or one.get("name") != "text" or one.get("datatype") != "BYTES":
        raise fields.wrong(
            "inputs", 'must be one tensor: {"name": "text", "datatype": "BYTES", "shape": [N], "data"}.'
        )
    texts = fields.texts(one.get("data"), "inputs[0].data", state.limits)
    if one.get("shape") not in ([len(texts)], [len(texts), 1]):
        raise fields.wrong(
            "inputs[0].shape", f"{str(one.get('shape'))[:40]}, and data has {len(texts)} texts."
        )
    return texts


def _tensor(name: str, kind: str, shape: Any, values: np.ndarray) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": list(shape), "data": values.ravel().tolist()}
