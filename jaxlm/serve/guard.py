"""What stands before every route. In: an ASGI app. Out: the same, where a request is admitted, counted and logged.

Refused are, in this order: who has no key; everything new while the server drains or gets ready; more than is taken at
once; bodies that say that they are too large, of which nothing is read.
"""

import contextlib
import hashlib
import hmac
import json
import pathlib
import sys
import time
import traceback
import uuid
from collections.abc import Collection, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.serve import fields
from jaxlm.serve.limits import Asked, Refusal, busy
from jaxlm.serve.state import State

_PROBED = ("/health", "/v2/health/live", "/v2/health/ready", "/metrics")
OPEN = ("/health", "/v2/health/live", "/v2/health/ready", "/")  # of these GET takes no key: probes have none
Scope = MutableMapping[str, Any]


class Guard:
    """Around the app."""

    def __init__(self, app: Any, *, state: State, keys: Collection[bytes], log: bool) -> None:
        self._app, self._state, self._keys, self._log = app, state, keys, log

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        asked = Asked(self._state.limits.seconds)
        identity, status = uuid.uuid4().hex[:16], 0
        scope.setdefault("state", {})["asked"] = asked

        async def marked(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
            await send(message)

        try:
            await self._admitted(scope, receive, marked)
        except Exception as error:
            if status:  # half of an answer is with the client
                raise
            await refusal(scope, error)(scope, receive, marked)
        finally:
            asked.gone.set()
            self._count(scope, asked, status or 499, identity)

    async def _admitted(self, scope: Scope, receive: Any, send: Any) -> None:
        state = self._state
        headers = dict(scope["headers"])
        works = scope["method"] == "POST"
        if not (scope["path"] in OPEN and scope["method"] in ("GET", "HEAD")):
            self._check_key(headers.get(b"authorization", b""))
        if not works:
            return await self._app(scope, receive, send)
        if state.draining:
            raise Refusal(503, "the server is being stopped.", kind="server_error", code="draining")
        if not state.ready:
            raise Refusal(503, "the server is getting ready.", kind="server_error", code="not_ready")
        if state.under_way >= state.limits.queue:
            raise busy(f"{state.limits.queue} requests are under way.")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > state.limits.body:
            raise fields.too_large(state.limits.body)
        state.under_way += 1
        state.metrics.under_way.set(state.under_way)
        try:
            await self._app(scope, receive, send)
        finally:
            state.under_way -= 1
            state.metrics.under_way.set(state.under_way)

    def _check_key(self, given: bytes) -> None:
        """All keys are compared, in constant time, so that how long it takes says nothing."""
        if not self._keys:
            return
        scheme, _, key = given.partition(b" ")
        digest = hashlib.sha256(key.strip()).digest()
        same = [hmac.compare_digest(digest, one) for one in self._keys]
        if scheme.lower() != b"bearer" or not any(same):
            message = "no key, or one that is not known: send the header Authorization: Bearer KEY."
            raise Refusal(401, message, kind="authentication_error", code="invalid_api_key")

    def _count(self, scope: Scope, asked: Asked, status: int, identity: str) -> None:
        route, seconds = scope.get("path_template", "other"), time.monotonic() - asked.since
        metrics = self._state.metrics
        metrics.requests.labels(route, asked.model, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        metrics.tokens.labels("written").inc(asked.written)
        if self._log and not (scope["path"] in _PROBED and status < 400):
            told = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "id": identity,
                "client": (scope.get("client") or ("",))[0],
                "method": scope["method"],
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
                "model": asked.model,
                "read": asked.read,
                "written": asked.written,
            }
            with contextlib.suppress(OSError):  # nobody reads it any longer
                print(json.dumps(told), file=sys.stderr, flush=True)


def told(error: Exception) -> Refusal:
    """What a client is told of what went wrong; of a bug of ours the stack trace goes to stderr."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, UserError):
        return Refusal(400, str(error))
    traceback.print_exception(error, file=sys.stderr)
    said = f"{type(error).__name__}, see the log of the server."
    return Refusal(500, said, kind="server_error", code="internal_error")


def refusal(scope: Scope, failed: Exception) -> JSONResponse:
    """The answer to what went wrong."""
    error = told(failed)
    form = "openai" if scope["path"].startswith("/v1/") else "plain"
    headers = {"connection": "close"} if error.status in (408, 413, 503) else {}
    if error.status in (429, 503):
        headers["retry-after"] = "1"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error.to_json(form), error.status, headers)


def read_keys(path: str | None) -> list[bytes]:
    """Hashes of the keys in a file, one a line; # begins a remark. UserError without a key in it."""
    if path is None:
        return []
    try:
        lines = pathlib.Path(expanded(path)).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--api-keys={path}: cannot be read: {error}. It is a file with a key a line."
        ) from error
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise UserError(
            f"--api-keys={path}: there is no key in it. Write one a line, or leave the option out."
        )
    return [hashlib.sha256(key.encode()).digest() for key in keys]
