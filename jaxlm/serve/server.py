"""The process. In: models, limits, a socket. Out: a server that ends when what it accepted is answered.

SIGTERM and Ctrl-C: what comes from then on gets 503, what was accepted is finished, at most `drain` seconds long; a
second signal ends at once. A connection that asks for nothing is closed.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxlm.config import remote
from jaxlm.data.corpus import extras
from jaxlm.errors import UserError
from jaxlm.infer import adapters, loaded
from jaxlm.serve.device import Device
from jaxlm.serve.limits import Limits
from jaxlm.serve.metrics import Metrics
from jaxlm.serve.queued import Queued, queued
from jaxlm.serve.slots import InRows
from jaxlm.serve.state import State
from jaxlm.serve.uses import WRITE, Served
from jaxlm.serve.writer import OneByOne, Writer

_BACKLOG = 4096  # connections that wait to be accepted
Say = Callable[[str], None]


def bound(host: str, port: int) -> socket.socket:
    """A socket at this address, before anything is loaded. UserError where it is taken, or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        said = getattr(error, "strerror", None) or str(error)
        fix = f"--port={port + 1 if 0 < port < 65535 else 8000}, or --port=0 for one that is free"
        raise UserError(
            f"--host={host} --port={port}: {said}. Fix: {fix}; or end the other server."
        ) from error
    return made


def opened(
    runs: Mapping[str, str], parts: Mapping[str, str], limits: Limits, how: Mapping[str, Any]
) -> State:
    """Models by name, and adapters of the only one. UserError for what cannot be served."""
    metrics = Metrics()
    device, models = Device(limits, metrics), dict[str, Served]()
    for name, where in runs.items():
        place = remote.readable(where)
        if parts:
            ready = adapters.load(place, parts, **{k: v for k, v in how.items() if k != "base"})
        else:
            ready = loaded.load(place, **how)
        model = queued(ready, device, name)
        if not parts or not ready.stored.heads:
            models[name] = Served(name, model)
        models |= {part: Served(part, model, part) for part in parts}
        writing = [one for one in models.values() if WRITE in one.does and one.writer is None]
        writer = _writer(name, model, writing, limits) if writing else None
        for one in writing:
            one.writer = writer
    return State(limits, metrics, device, models)


def _writer(name: str, model: Queued, models: Sequence[Served], limits: Limits) -> Writer:
    """In rows on one device, else one text after the other."""
    frames = [frame for one in models for frame in (one.frame, one.talking) if frame is not None]
    if model.mesh.size > 1:
        return OneByOne(name)
    return InRows(name, model, frames, rows=limits.rows, room=limits.room)


def warm(state: State, say: Say) -> None:
    """Compiles what requests will need; then the server is ready."""
    try:
        for one in state.models.values():
            one.sample()
        for writer in state.writers:
            writer.warm()
        state.device.warm(say, lambda: state.draining)
    except Exception as error:
        state.failed = f"{type(error).__name__}: {error}"
        say(f"cannot get ready: {state.failed}")
        raise
    if state.draining:
        return
    state.ready = True
    state.metrics.ready.set(1)
    say("ready")


def serve(state: State, app: Any, at: socket.socket, say: Say) -> int:
    """Until it is told to end; 0."""
    uvicorn = extras.require("uvicorn", "serve", "`jaxlm serve`")
    protocol = _impatient(state.limits.sending)
    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, backlog=_BACKLOG,
        timeout_keep_alive=30, server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    _allow_files()
    with _signals(state, server, say):
        at.listen(_BACKLOG)
        host, port = at.getsockname()[:2]
        say(f"listening on http://{host}:{port}/ for {', '.join(state.models)}; compiling")
        warming = threading.Thread(target=_warm_or_end, args=(state, server, say), daemon=True)
        warming.start()
        server.run(sockets=[at])
        state.draining = True
        warming.join(timeout=60)  # a program that is being compiled when the process ends would abort it
    state.close()
    return 1 if state.failed else 0


def _allow_files() -> None:
    """A connection is an open file, and usually only 1,024 are allowed unless one asks."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _warm_or_end(state: State, server: Any, say: Say) -> None:
    try:
        warm(state, say)
    finally:
        server.should_exit = server.should_exit or bool(state.failed)


@contextlib.contextmanager
def _signals(state: State, server: Any, say: Say) -> Iterator[None]:
    """The server's own handlers, which uvicorn then leaves alone."""
    server.capture_signals = contextlib.nullcontext
    draining: list[threading.Thread] = []

    def asked(number: int, _: Any) -> None:
        if state.draining:
            server.should_exit = server.force_exit = True
            return
        state.draining = True
        draining.append(threading.Thread(target=_drain, args=(state, server, say), daemon=True))
        draining[0].start()

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drain(state: State, server: Any, say: Say) -> None:
    say(f"stopping: {state.under_way} requests are finished first")
    pause = threading.Event()
    left = state.limits.drain
    while state.under_way and left > 0:
        pause.wait(0.05)
        left -= 0.05
    pause.wait(0.1)  # the last bytes
    if state.under_way:
        say(f"{state.under_way} requests were not finished within --drain={state.limits.drain:g}")
        server.force_exit = True
    server.should_exit = True


def _impatient(seconds: float) -> type:
    """uvicorn's protocol, which closes a connection whose request has no end of its head within so long."""
    module = extras.require("uvicorn.protocols.http.httptools_impl", "serve", "`jaxlm serve`")

    class Impatient(module.HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._late = asyncio.get_running_loop().call_later(seconds, self.transport.close)

        def on_message_begin(self) -> None:
            self._late.cancel()  # that of the head before
            self._late = asyncio.get_running_loop().call_later(seconds, self.transport.close)
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._late.cancel()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._late.cancel()
            super().connection_lost(exc)

    return Impatient


def tell(line: str) -> None:
    """A line about the server itself, on stderr; where nobody reads that any longer, the server goes on."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def named(runs: Sequence[str]) -> dict[str, str]:
    """{name: RUN} of RUN or NAME=RUN; without a name it is the last part of the path. UserError for two of one name."""
    import pathlib
    import re

    found: dict[str, str] = {}
    for run in runs:
        given = re.fullmatch(r"([\w.-]+)=(.+)", run)
        whole = given is None or pathlib.Path(run).expanduser().exists()
        plain = re.sub(r"^hf:|@\d+$", "", run).rstrip("/")
        name, where = (pathlib.PurePath(plain).name or "model", run) if whole or not given else given.groups()
        if name in found:
            raise UserError(
                f"--run: two models are called {name}. Fix: --run=NAME={where} with another name."
            )
        found[name] = where
    return found
