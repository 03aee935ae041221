"""Models behind HTTP, for the clients of OpenAI, Hugging Face and KServe.

    jaxlm serve --run=hf:path/to/minilm
    jaxlm serve --run=small=hf:path/to/minilm --run=chat=runs/chat --port=8001 --api-keys=keys.txt
    jaxlm serve --run=hf:path/to/base --adapter=legal=runs/legal --adapter=news=runs/news

Then http://127.0.0.1:8000/ is a page to try it by hand, and docs/serving.md lists the routes. A request names its
model; without a name it gets the first that does what is asked. SIGTERM ends it when what was accepted is answered.
"""

import dataclasses
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Loads, listens, compiles, answers, until it is told to end."""
    options = _parser().options(argv)

    from jaxlm.data.corpus import extras  # after parsing, so that --help answers at once

    for module in ("starlette", "uvicorn", "msgspec", "httptools", "prometheus_client"):
        extras.require(module, "serve", "`jaxlm serve`")

    from jaxlm.config import flags
    from jaxlm.data.places import default_cache
    from jaxlm.infer import loaded
    from jaxlm.runtime import compilation
    from jaxlm.serve import app, guard, server
    from jaxlm.serve.limits import Limits

    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    limits.validate()
    runs, parts = server.named([options.run, *options.more]), dict(options.adapter)
    if parts and len(runs) > 1:
        raise UserError(
            "--adapter is of one --run, the base of all: serve another model from a process of its own."
        )
    if twice := parts.keys() & runs.keys():
        raise UserError(f"--adapter={min(twice)}=...: the model is called so, too. Give it another name.")
    keys = guard.read_keys(options.api_keys)
    at = server.bound(options.host, options.port)
    compilation.enable(default_cache(), server.tell)
    flags.named_recipe(options.recipe, *runs.values(), *parts.values())
    how = {**loaded.settings(options), "step": options.step, "base": options.base}
    state = server.opened(runs, parts, limits, how)
    made = app.app(state, keys=keys, origins=options.cors_origin, log=not options.quiet)
    return server.serve(state, made, at, server.tell)


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    add = parser.add_argument
    what = "a run folder, a model folder, hf:DIR or a .gguf file, as RUN or NAME=RUN; several times: several models"
    table.add_run(parser, what, several=True)
    table.add_computation(parser)
    parser.runs = []  # they have names: server.opened looks into buckets
    what = "a run with LoRA or a PEFT folder on --run as its base, which requests name as their model; several times"
    add("--adapter", type=table.named, action="append", default=[], metavar="NAME=DIR", help=what)
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0: all; default: 127.0.0.1, this machine",
    )
    add("--port", type=int, default=8000, metavar="N", help="0: one that is free; default: 8000")
    add("--api-keys", metavar="FILE", help="file with a key a line; without it anyone may ask")
    cors = "a page of this origin may ask from a browser, too; several times; *: any; default: none"
    add("--cors-origin", action="append", default=[], metavar="URL", help=cors)
    add("--queue", type=int, metavar="N", help="requests under way at once; beyond: 429; default: 512")
    add("--body", type=int, metavar="BYTES", help="of a request, at most; beyond: 413; default: 8 MiB")
    add("--texts", type=int, metavar="N", help="of a request, at most; default: 2048")
    add("--seconds", type=float, metavar="S", help="that a request may take; then 504; default: 120")
    add(
        "--sending",
        type=float,
        metavar="S",
        help="in which a client must have sent it; then 408; default: 10",
    )
    add("--batch", type=int, metavar="N", help="rows computed together, a power of two; default: 32")
    add("--wait", type=float, metavar="S", help="that a row waits for others of its length; default: 0.002")
    add("--rows", type=int, metavar="N", help="texts written at once, on one device; default: 8")
    add(
        "--room",
        type=int,
        metavar="N",
        help="tokens of a prompt and its answer there, at most; default: 2048",
    )
    add("--drain", type=float, metavar="S", help="for what was accepted, after SIGTERM; default: 30")
    add("--quiet", action="store_true", help="no line of JSON for every request on stderr")
    return parser


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main, when_out_of_memory="Fix: a smaller --batch, --precision=bfloat16, or more devices.")
