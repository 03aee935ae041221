"""What the fields of config dataclasses mean. In: a class. Out: {field: meaning}, read from its source.

The meaning of a field is the comment behind it, or the comment lines directly above it: the place where it is
written is the place where it is read, and it costs nothing until somebody asks.
"""

import ast
import dataclasses
import functools
import io
import pathlib
import re
import sys
import tokenize

import jaxlm

_CONFIG_CLASS = re.compile(r"^@dataclasses\.dataclass\(kw_only=True\)\nclass (\w+)", re.MULTILINE)


@functools.cache
def of(kind: type) -> dict[str, str]:
    """The meaning of every field, also of inherited ones; "" where the source says nothing or is not at hand."""
    found = {}
    for base in reversed(kind.__mro__):
        source = getattr(sys.modules.get(base.__module__), "__file__", None)
        if dataclasses.is_dataclass(base) and source and pathlib.Path(source).is_file():
            found |= of_file(source).get(base.__qualname__, {})
    return {field.name: found.get(field.name, "") for field in dataclasses.fields(kind)}


@functools.cache
def classes() -> dict[str, str]:
    """The config classes of jaxlm, those that a recipe may name: class -> its module. Nothing is imported."""
    root = pathlib.Path(jaxlm.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        module = ".".join(("jaxlm", *path.relative_to(root).with_suffix("").parts))
        for name in _CONFIG_CLASS.findall(path.read_text(encoding="utf-8")):
            if not name.startswith("_"):
                found[name] = module
    return found


@functools.cache
def of_file(path: str) -> dict[str, dict[str, str]]:
    """{class: {field: comment}} of a source file, inherited ones left out."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    comments, alone = _comments(text)
    return {
        node.name: {
            field.target.id: _meaning(field, comments, alone)
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    }


def _comments(text: str) -> tuple[dict[int, str], set[int]]:
    """Comments by line, and the lines that hold nothing else."""
    comments, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    return comments, alone


def _meaning(field: ast.AnnAssign, comments: dict[int, str], alone: set[int]) -> str:
    inside = [comments[line] for line in range(field.lineno, (field.end_lineno or 0) + 1) if line in comments]
    if inside:
        return " ".join(inside)
    first = field.lineno
    while first - 1 in alone:
        first -= 1
    return " ".join(comments[line] for line in range(first, field.lineno))
