"""The routes. In: a `State`. Out: an ASGI app; `GET /` is a page to try it by hand."""

import functools
import importlib.resources
from collections.abc import Collection, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from jaxlm.serve import chat, endpoints, kserve, openai, tei
from jaxlm.serve.guard import Guard, refusal
from jaxlm.serve.limits import Refusal
from jaxlm.serve.state import State


async def page(state: State, request: Request) -> Response:
    """GET /."""
    return HTMLResponse(importlib.resources.files("jaxlm.serve").joinpath("page.html").read_text("utf-8"))


async def metrics(state: State, request: Request) -> Response:
    """GET /metrics."""
    text, kind = state.metrics.text()
    return Response(text, headers={"content-type": kind})


_GET = {
    "/": page,
    "/health": kserve.ready,
    "/info": tei.info,
    "/metrics": metrics,
    "/v1/models": openai.models,
    "/v1/models/{name}": openai.model,
    "/v2": kserve.server,
    "/v2/health/live": kserve.live,
    "/v2/health/ready": kserve.ready,
    "/v2/models/{name}": kserve.model,
    "/v2/models/{name}/ready": kserve.model_ready,
}
_POST = {
    "/v1/embeddings": openai.embeddings,
    "/v1/completions": chat.completions,
    "/v1/chat/completions": chat.chat,
    "/": endpoints.root,
    "/models/{name}": endpoints.root,
    "/embed": tei.embed,
    "/rerank": tei.rerank,
    "/predict": tei.predict,
    "/similarity": endpoints.similarity,
    "/fill-mask": endpoints.fill_mask,
    "/token-classification": endpoints.tags,
    "/question-answering": endpoints.answer,
    "/v2/models/{name}/infer": kserve.infer,
}


def app(
    state: State, *, keys: Collection[bytes] = (), origins: Sequence[str] = (), log: bool = False
) -> Starlette:
    """`keys`: hashes of those that are let in, (): anyone; `origins`: pages of these may ask, too."""
    routes = [_route(state, path, "GET", answer) for path, answer in _GET.items()]
    routes += [_route(state, path, "POST", answer) for path, answer in _POST.items()]
    around = [Middleware(Guard, state=state, keys=keys, log=log)]
    if origins:
        cors: dict[str, Any] = {
            "allow_methods": ["GET", "POST"],
            "allow_headers": ["authorization", "content-type"],
        }
        around.insert(0, Middleware(CORSMiddleware, allow_origins=list(origins), **cors))
    return Starlette(routes=routes, middleware=around, exception_handlers={HTTPException: _no_route})


def _route(state: State, path: str, method: str, answer: Any) -> Route:
    @functools.wraps(answer)
    async def answered(request: Request) -> Any:
        request.scope["path_template"] = path
        return await answer(state, request)

    return Route(path, answered, methods=[method])


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: f"there is no route {request.url.path[:200]}.", 405: f"{request.method} is not taken here."}
    message = said.get(error.status_code, str(error.detail))
    made = refusal(request.scope, Refusal(error.status_code, message, code="not_found"))
    made.headers.update(error.headers or {})
    return made
