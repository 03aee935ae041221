"""Answers to files of texts in parts: what was killed goes on when the same line is typed again. In: options of a
command that answers texts. Out: --output, or its parts.

--output=FILE is joined of FILE.parts/ when all is answered; --output=DIR/ (or s3://bucket/folder/) keeps the parts.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from jaxlm.buckets.bucket import is_url
from jaxlm.commands import inputs
from jaxlm.commands import options as table
from jaxlm.errors import UserError

# Not what decides the bytes of an answer, or known by content.
_ASIDE = (
    "input",
    "output",
    "share",
    "part_records",
    "run",
    "more",
    "step",
    "base",
    "adapter",
    "draft",
    "recipe",
)


def add_options(parser: table.Parser, records: int) -> None:
    """How the work is cut; `records`: the default of a part."""
    add = parser.add_argument_group("many texts (--input=FILES with --output)").add_argument
    what = f"texts that are answered and kept together; a killed job loses one part at most; default: {records:,}"
    add("--part-records", type=_positive, default=records, metavar="N", help=what)
    what = "process I of N (from 1) answers every N-th part; the one that finds all parts there joins them"
    add("--share", type=_share, default=(1, 1), metavar="I/N", help=what)


def place(text: str) -> pathlib.Path | str:
    """--output: a file; or as text a folder, which ends in a slash, or a URL."""
    if is_url(text):
        return text
    if not text.endswith("/"):
        return table.file_place(text)
    path = pathlib.Path(text).expanduser()
    table.file_place(str(path.parent / f".{path.name}"))
    return f"{path}/"


def asked(options: argparse.Namespace) -> bool:
    """Whether the answers are made in parts. UserError for a folder, a URL or a share without files."""
    output, again = options.output, options.input is not None and not inputs.passes(options.input)
    file = isinstance(output, pathlib.Path) and (output.is_file() or not output.exists())
    if again and (file or isinstance(output, str)):
        return True
    if isinstance(output, str) or options.share != (1, 1):
        name = f"--output={output}" if isinstance(output, str) else "--share"
        raise UserError(
            f"{name}: it takes files to answer and a place for the answers: --input=FILES --output=PLACE."
        )
    return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What a command does with its texts in parts."""

    kind: str  # how the names of parts in a folder end, such as .jsonl
    records: Callable[[], Iterator[Any]]  # all of them, from the first
    compute: Any  # see infer.parts.Compute
    joined: Any = None  # see infer.parts.Join; None: one after the other
    # gets the job, all parts of which are there, and how many records it has
    before: Callable[[Any, int], None] | None = None


def done(command: str, options: argparse.Namespace, work: Work) -> bool:
    """Makes the parts of this share; and of all the file, if all are there. Whether all is done."""
    from jaxlm.infer import parts, places

    folder, final, ending = _where(options.output, work.kind)
    about = _about(command, options)
    how = {"size": options.part_records, "ending": ending, "share": options.share, "say": _say}
    job = parts.Job(places.of(folder), about, **how)
    kept = job.kept()
    if final and kept.get("joined"):
        if final[1] in places.of(final[0]).names():
            _say(f"resumed: all parts were there, and joined to {options.output}")
            job.clear()
            return True
        job.place.clear(parts.MANIFEST)
        kept = {}
    count = kept.get("records") or sum(1 for _ in work.records())
    if not count:
        raise UserError(f"There is no text: --input={options.input} names an empty file.")
    if not job.run(work.records(), count, work.compute):
        there = len(job.there(job.total(count)))
        _say(f"{there:,} of {job.total(count):,} parts are there: the others are of other shares")
        return False
    if work.before is not None:
        work.before(job, count)
    if final:
        job.join(count, places.of(final[0]), final[1], work.joined or parts.concatenated)
    return True


def _where(output: pathlib.Path | str, kind: str) -> tuple[str, tuple[str, str] | None, str]:
    """(folder of the parts, (folder, name) of the file that they become; None: of none, how their names end)."""
    if isinstance(output, pathlib.Path):
        file = output.resolve()
        return f"{file}.parts", (str(file.parent), file.name), file.suffix
    above, _, name = output.rpartition("/")
    ending = pathlib.PurePosixPath(name).suffix
    if ending and not above.endswith(":/"):  # a bucket's own name may have a dot
        return f"{output}.parts", (above, name), ending
    return output.rstrip("/"), None, kind


def file_name(output: pathlib.Path | str) -> pathlib.Path | None:
    """Of the file that is made, which says its kind; None: parts in a folder."""
    found = _where(output, "")[1]
    return found and pathlib.Path(found[1])


def _about(command: str, options: argparse.Namespace) -> dict[str, Any]:
    """What decides the bytes of all answers: the files by content, or by size and time where they are large."""
    from jaxlm.data.corpus import files
    from jaxlm.infer import identity

    content = lambda path: identity.content(pathlib.Path(path).expanduser()).hex()[:16]
    given = {name: value for name, value in vars(options).items() if name not in _ASIDE}
    if given.get("shots_from"):
        given["shots_from"] = content(given["shots_from"])
    if options.recipe and pathlib.Path(options.recipe).expanduser().is_file():
        given["recipe"] = content(options.recipe)
    return {
        "command": command,
        "--input": files.identity(inputs.found(options.input)),
        "--part-records": options.part_records,
        "models": _models(options),
        "options": {f"--{name.replace('_', '-')}": _plain(value) for name, value in sorted(given.items())},
    }


def _models(options: argparse.Namespace) -> dict[str, str]:
    from jaxlm.infer import identity
    from jaxlm.tasks import of

    made = {}
    for number, run in enumerate((options.run, *options.more)):
        made["--run" if not number else f"--run ({number + 1})"] = identity.of_model(
            *of.named(run, options.step)
        )
    for name, where in options.adapter:
        made[f"--adapter {name}"] = identity.of_model(where)
    for name in ("base", "draft"):
        if where := getattr(options, name, None):
            made[f"--{name}"] = identity.of_model(where)
    return made


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: a number from 1")
    return int(text)


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text}: I/N, such as 1/4, 2/4, 3/4 and 4/4 of four processes")
    return int(found[1]), int(found[2])


def as_json(value: Any) -> str:
    """A line of JSON for a file, the same whatever the terminal is."""
    return json.dumps(value, ensure_ascii=False)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
