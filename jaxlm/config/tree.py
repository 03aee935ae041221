"""Walks a tree of config dataclasses: nodes, leaves, type checks, to and from JSON.

In: any nest of dataclasses, tuples and plain values. Out: paths like `model.layers` or `stages[0].length`.
JSON keeps every dataclass with its class (`"type": "jaxlm.models.bert.Bert"`), so that a run folder rebuilds its
objects; only dataclasses are rebuilt, never arbitrary classes.
"""

import dataclasses
import importlib
import types
import typing
from collections.abc import Iterator
from typing import Any

from jaxlm.errors import UserError, did_you_mean


def nodes(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every dataclass in the tree with its path, parents first."""
    if dataclasses.is_dataclass(node):
        yield path, node
        for field in dataclasses.fields(node):
            yield from nodes(getattr(node, field.name), f"{path}.{field.name}" if path else field.name)
    elif isinstance(node, (tuple, list)):
        for i, child in enumerate(node):
            yield from nodes(child, f"{path}[{i}]")


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any, bool]]:
    """(path, value, has_default) of every plain value: has_default is the field's."""
    for where, parent in nodes(node, path):
        for field in dataclasses.fields(parent):
            value = getattr(parent, field.name)
            if not _holds_dataclass(value):
                yield f"{where}.{field.name}" if where else field.name, value, has_default(field)


def has_default(field: dataclasses.Field) -> bool:
    """Whether a field is operational by the rule of the package: it has a default."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _holds_dataclass(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(dataclasses.is_dataclass(item) for item in value)
    return dataclasses.is_dataclass(value)


def check_types(root: Any, where: str) -> None:
    """Raises UserError for the first value that does not have its field's type."""
    for path, node in nodes(root, where):
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if not _fits(value, field.type):
                raise UserError(
                    f"{path}.{field.name}={value!r} has the wrong type; allowed: {_describe(field.type)}."
                )
            if typing.get_origin(field.type) is typing.Literal and value not in typing.get_args(field.type):
                known = typing.get_args(field.type)
                hint = did_you_mean(str(value), known)
                raise UserError(f"{path}.{field.name}={value!r}; allowed: {', '.join(known)}.{hint}")


def _fits(value: Any, annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if annotation is Any or isinstance(annotation, str) or origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(annotation))
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = origin or annotation
    return isinstance(value, (tuple, list) if kind is tuple else kind) if isinstance(kind, type) else True


def _describe(annotation: Any) -> str:
    return (
        getattr(annotation, "__name__", str(annotation))
        if not typing.get_args(annotation)
        else str(annotation)
    )


def to_json(node: Any) -> Any:
    """The tree as JSON values; dataclasses become objects with their class under "type"."""
    if dataclasses.is_dataclass(node):
        kind = type(node)
        fields = {f.name: to_json(getattr(node, f.name)) for f in dataclasses.fields(node)}
        return {"type": f"{kind.__module__}.{kind.__qualname__}", **fields}
    if isinstance(node, (tuple, list)):
        return [to_json(item) for item in node]
    return node


def from_json(value: Any, where: str = "config") -> Any:
    """Inverse of `to_json`. Raises UserError when a class is gone or no longer has the fields that were written."""
    if isinstance(value, list):
        return tuple(from_json(item, f"{where}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    kind = _resolve(value["type"], where)
    fields = {k: from_json(v, f"{where}.{k}") for k, v in value.items() if k != "type"}
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(fields) - known):
        raise UserError(f"{where}: {value['type']} of this version has no field {', '.join(unknown)}.")
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in fields and not has_default(f)]
    if missing:
        raise UserError(f"{where}: {value['type']} of this version also needs {', '.join(missing)}.")
    return kind(**fields)


def _resolve(name: str, where: str) -> type:
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: cannot find the config class {name} ({error}).") from error
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise UserError(f"{where}: {name} is not a config class.")
    return kind
