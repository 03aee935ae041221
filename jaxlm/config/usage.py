"""What `jaxlm train --help` prints. In: nothing, or a run. Out: every key with its value and its meaning, in groups."""

import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from jaxlm.checkpoint.policy import Keep
from jaxlm.config import meanings, swap, tree
from jaxlm.config.schema import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.partition.mesh import Mesh

_USAGE = """\
usage: jaxlm train RECIPE [--workdir=DIR] [--config.KEY=VALUE ...]
       jaxlm train --workdir=DIR          continues the run of that folder

    jaxlm train quickstart
    jaxlm train bert_base --config.data.corpus='wiki-*.jsonl.zst' --workdir=runs/wiki
    jaxlm train my_recipe.py --config.steps=500 --config.optimizer.schedule.peak=3e-4
    jaxlm train quickstart --config.optimizer="AdamW(schedule=WarmupLinear(peak=1e-3, warmup='5%', end=0.0), \
weight_decay=0.01, clip_norm=1.0, b1=0.9, b2=0.98, epsilon=1e-8)"
    jaxlm train --workdir=runs/wiki

RECIPE (or --config=RECIPE) is a name of `jaxlm recipes`, or a file; either may go on with :ARGUMENT.
--workdir=DIR           the run folder, or s3://BUCKET/DIR; default: runs/ and the recipe's name. A run there goes on
--config.KEY=VALUE      another value than the recipe's; an object is written as Name(field=value, ...)
--explain               prints every value and where it comes from, and stops
--preflight             prepares the data, compiles every stage, says memory, time and tokens, and stops
--allow-config-change   goes on with a changed schedule
--recipe=FILE           with --workdir alone: the file that defines classes of that run; it is executed
--help                  this; with a recipe: every key of it, with its value and its meaning"""
_PARTS: dict[str, type] = {
    "": Run,
    "data": Data,
    "stages[0]": Stage,
    "evaluation": Evaluation,
    "checkpoint": Checkpointing,
    "checkpoint.keep": Keep,
    "logging": Logging,
    "mesh": Mesh,
}
_COLUMN, _VALUE = 42, 60


def general() -> str:
    """Usage, examples, and the keys that every run has."""
    lines = [
        _USAGE,
        "",
        "Keys of every run, with their defaults (`jaxlm train RECIPE --help`: those of a recipe, too)",
    ]
    for path, kind in _PARTS.items():
        lines += ["", _title(path or "the run", kind)]
        for field in dataclasses.fields(kind):
            key = f"{path}.{field.name}".lstrip(".")
            if key not in _PARTS and not (path == "" and f"{key}[0]" in _PARTS):
                lines.append(_line(key, _default(field), meanings.of(kind)[field.name]))
            if path == "" and (known := swap.choices(key)):
                lines.append(_line("", "", f"one of {', '.join(known)}"))
    return "\n".join(lines)


def of_run(run: Run, name: str) -> str:
    """Every key of a run with its value."""
    lines = [_USAGE.partition("\n")[0], "", f"Keys of {name}, as --config.KEY=VALUE"]
    for path, node in tree.nodes(run, ""):
        lines += ["", _title(path or "the run", type(node))]
        lines += [_line(*row) for row in _rows(path, node)]
    return "\n".join(lines)


def _rows(path: str, node: Any) -> Iterator[tuple[str, str, str]]:
    means = meanings.of(type(node))
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        inside = isinstance(value, (tuple, list)) and any(map(dataclasses.is_dataclass, value))
        if not (dataclasses.is_dataclass(value) or inside):
            yield f"{path}.{field.name}".lstrip("."), repr(value), means[field.name]


def _title(path: str, kind: type) -> str:
    """The part of the run, its class, and the first sentence about it."""
    said = re.split(r"(?<=\.)\s+(?=[A-Z])|\n\n", inspect.getdoc(kind) or "")[0]
    return textwrap.fill(f"{path}: {kind.__name__}. {' '.join(said.split())}", _width())


def _default(field: dataclasses.Field) -> str:
    if not tree.has_default(field):
        return ""
    return repr(tree.default(field))


def _line(key: str, value: str, meaning: str) -> str:
    value = value if len(value) <= _VALUE else f"{value[: _VALUE - 3]}..."
    head = f"  {key}={value}" if value else f"  {key}"
    body = textwrap.indent(textwrap.fill(meaning, max(_width() - _COLUMN, 40)), " " * _COLUMN)
    return f"{head:<{_COLUMN}}{body[_COLUMN:]}" if len(head) < _COLUMN - 1 else f"{head}\n{body}"


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 110)
