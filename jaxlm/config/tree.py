"""Walks a tree of config dataclasses: nodes, leaves, type checks, to and from JSON.

In: any nest of dataclasses, tuples and plain values. Out: paths like `model.layers` or `stages[0].length`.
JSON keeps every dataclass with its class (`"type": "jaxlm.models.bert.Bert"`), so that a run folder rebuilds its
objects. Guaranteed: a folder chooses among dataclasses of jaxlm and of the recipe that this command names; it makes
nothing else be imported or called.
"""

import dataclasses
import importlib
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from jaxlm.config import former
from jaxlm.errors import UserError, did_you_mean


class NotNamed(UserError):
    """A class in JSON that no recipe was named for."""


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


def default(field: dataclasses.Field) -> Any:
    """The default of a field that has one."""
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()  # pyright: ignore


def at(root: Any, path: str) -> Any:
    """The value at a path such as `stages[0].length`; of "", the root."""
    for step in re.findall(r"\w+|\[\d+\]", path):
        root = root[int(step[1:-1])] if step.startswith("[") else getattr(root, step)
    return root


def _holds_dataclass(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(dataclasses.is_dataclass(item) for item in value)
    return dataclasses.is_dataclass(value)


def check_types(root: Any, where: str) -> None:
    """Raises UserError for the first value that does not have its field's type."""
    for path, node in nodes(root, where):
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if not _is_kept(value):
                raise UserError(
                    f"{path}.{field.name}={value!r:.200}: {type(value).__name__} is no dataclass, and a run folder "
                    "keeps nothing else but numbers, texts and tuples. Fix: @dataclasses.dataclass(kw_only=True) on it."
                )
            if not _fits(value, field.type):
                raise UserError(
                    f"{path}.{field.name}={value!r} has the wrong type; allowed: {_describe(field.type)}."
                )
            if typing.get_origin(field.type) is typing.Literal and value not in typing.get_args(field.type):
                known = typing.get_args(field.type)
                hint = did_you_mean(str(value), known)
                raise UserError(f"{path}.{field.name}={value!r}; allowed: {', '.join(known)}.{hint}")


def _is_kept(value: Any) -> bool:
    """Whether JSON can hold a value and give it back."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_kept, value))
    return value is None or isinstance(value, (str, int, float)) or dataclasses.is_dataclass(type(value))


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
        fields = {f.name: to_json(getattr(node, f.name)) for f in dataclasses.fields(node)}
        return {"type": _name(type(node)), **fields}
    if isinstance(node, (tuple, list)):
        return [to_json(item) for item in node]
    return node


def from_json(value: Any, where: str = "config") -> Any:
    """Inverse of `to_json`. UserError when a class is none of ours, is gone, or has other fields or types by now."""
    try:
        made = _from_json(former.present(value), where)
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply to be a configuration.") from error
    check_types(made, where)
    return made


def _from_json(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item, f"{where}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    kind = _resolve(value.get("type"), where)
    fields = {k: _from_json(v, f"{where}.{k}") for k, v in value.items() if k != "type"}
    known = {f.name for f in dataclasses.fields(kind) if f.init}
    if unknown := sorted(set(fields) - known):
        raise UserError(f"{where}: {value['type']} of this version has no field {', '.join(unknown)}.")
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in fields and not has_default(f)]
    if missing:
        raise UserError(f"{where}: {value['type']} of this version also needs {', '.join(missing)}.")
    return kind(**fields)


_of_recipe: dict[str, type] = {}  # by the name that stands in JSON


def trust(*places: Any) -> None:
    """Lets JSON name the dataclasses of these trees and modules: the recipe that the user named, already executed."""
    for place in places:
        if isinstance(place, types.ModuleType):
            kinds = [kind for kind in vars(place).values() if isinstance(kind, type)]
        else:
            kinds = [type(node) for _, node in nodes(place, "")]
        _of_recipe.update({_name(kind): kind for kind in kinds if dataclasses.is_dataclass(kind)})


def trusted() -> list[type]:
    """The dataclasses of the recipes that this process was told to use."""
    return list(_of_recipe.values())


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _resolve(name: Any, where: str) -> type:
    if not isinstance(name, str):
        raise UserError(f'{where}: "type" is {name!r:.80}; it must be the name of a config class.')
    if name in _of_recipe:
        return _of_recipe[name]
    if not name.startswith("jaxlm."):
        raise NotNamed(
            f"{where}: {name:.200} is not a class of jaxlm, and a folder's own choice is never imported. Fix: name, "
            "with --recipe=FILE in the same command, the recipe that defines or imports it."
        )
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: cannot find the config class {name:.200} ({error}).") from error
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and _name(kind) == name):
        raise UserError(f"{where}: {name:.200} is not a config class.")
    return kind


def within(value: float, low: float, high: float | None, where: str) -> None:
    """UserError for a number out of range; None: no upper end."""
    if not (low <= value and (high is None or value <= high)):  # so that NaN is refused too
        allowed = f"at least {low}" if high is None else f"{low} to {high}"
        raise UserError(f"{where}={value} is out of range; allowed: {allowed}.")
