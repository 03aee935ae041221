"""Components on the command line. In: `--config.optimizer="AdamW(schedule=WarmupLinear(peak=1e-3))"`. Out: the object.

What is written is parsed, never evaluated: literals, tuples, and calls by name of config classes, those of jaxlm and of
the recipe. A field may be left out where the object that stands there now is of the same class (its value is kept),
where the class has a default, or where it is what the class stands around: `RDrop(alpha=1.0)` is around the objective
that is there. Nothing else is taken over from an object of another class, as the same name may mean something else
there (Adafactor's epsilon is no Adam's): the message offers those values instead.
"""

import ast
import dataclasses
import functools
import importlib
import re
import typing
from typing import Any

from jaxlm.config import meanings, tree
from jaxlm.errors import UserError, did_you_mean

# Key: what an object must have to be one, and where ours are. Fields with a type are checked by `Run.validate`.
_OFFERS = {
    "model": ("module", "models"),
    "objective": ("check_model", "objectives"),
    "tokenizer": ("sample_bytes", "data.tokenizer"),
    "optimizer": ("direction", "optim"),
    "view": ("split", "views"),
}
_PLAIN = (str, int, float, bool)


def is_component(run: Any, key: str, text: str) -> bool:
    """Whether `key` holds an object or a tuple of some; where there is none yet, whether `text` is one."""
    try:
        present = tree.at(run, key)
    except (AttributeError, IndexError, TypeError):  # an element that is not there
        return False
    if isinstance(present, (tuple, list)):
        above, _, name = key.rpartition(".")
        of_parent = {
            field.name: typing.get_args(field.type) for field in dataclasses.fields(tree.at(run, above))
        }
        return of_parent.get(name, (str,))[0] not in _PLAIN
    return dataclasses.is_dataclass(present) or (present is None and "(" in text)


def swapped(run: Any, key: str, text: str, where: str) -> Any:
    """Puts what `text` says in place of `run.KEY`, and returns it. UserError for what is no component."""
    written = _parsed(key, text, where)
    present = tree.at(run, key)
    if isinstance(present, (tuple, list)) and not isinstance(written, (ast.Tuple, ast.List)):
        written = ast.Tuple(elts=[written], ctx=ast.Load())
    made = _value(written, present, where)
    for one in made if isinstance(made, tuple) else (made,):
        if key in _OFFERS and not hasattr(one, _OFFERS[key][0]):
            raise UserError(
                f"{where}: {type(one).__name__} is no {key}. Allowed are: {', '.join(choices(key))}."
            )
    _put(run, key, made)
    return made


def _parsed(key: str, text: str, where: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{where}: cannot be read: {error}. {_form(key, text)}") from error


def _form(key: str, text: str) -> str:
    if key == "tokenizer" and "(" not in text:
        return f"""Fix: --config.tokenizer="Pretrained(path='{text}')", if that is the tokenizer's file or folder."""
    return "It is written Name(field=value, ...)."


def _put(run: Any, key: str, made: Any) -> None:
    element = re.fullmatch(r"(.*)\[(\d+)\]", key)
    if element:
        items = list(tree.at(run, element[1]))
        items[int(element[2])] = made
        key, made = element[1], tuple(items)
    above, _, name = key.rpartition(".")
    setattr(tree.at(run, above), name, made)


def _value(node: ast.expr, present: Any, where: str, name: str = "") -> Any:
    """What is written; `present` stands there now; `name` of the field inside an object."""
    if isinstance(node.func if isinstance(node, ast.Call) else node, ast.Name):
        return _component(node, present, where, name)
    if isinstance(node, (ast.Tuple, ast.List)):
        there = [*present] if isinstance(present, (tuple, list)) else []
        there += [None] * (len(node.elts) - len(there))
        return tuple(_value(item, old, where, name) for item, old in zip(node.elts, there, strict=False))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        key, _, text = where.removeprefix("--config.").partition("=")
        shown = ast.unparse(node)
        raise UserError(f"{where}: {shown} is neither a literal nor an object. {_form(key, text)}") from error


def _component(node: Any, present: Any, where: str, name: str) -> Any:
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    kind = _kind(call.func.id, where)  # pyright: ignore[reportAttributeAccessIssue]
    fields = [field for field in dataclasses.fields(kind) if field.init]
    names = [field.name for field in fields]
    if call.args:
        written = ast.unparse(call.args[0])
        known = ", ".join(names)
        raise UserError(
            f"{where}: {written} stands in {kind.__name__} without the name of a field, one of {known}."
        )
    # A class that stands around what is there, unless that is one already.
    around = "" if type(present) is kind else getattr(kind, "around", "")
    given = {}
    for keyword in call.keywords:
        if keyword.arg not in names:
            close = did_you_mean(keyword.arg or "**", names)
            raise UserError(
                f"{where}: {kind.__name__} has no field {keyword.arg}.{close} Its fields: {', '.join(names)}."
            )
        there = present if keyword.arg == around else getattr(present, keyword.arg, None)
        given[keyword.arg] = _value(keyword.value, there, where, keyword.arg)
    if around and around not in given and present is not None:
        given[around] = present
    if type(present) is kind:
        given = {name: getattr(present, name) for name in names} | given
    lacking = [field.name for field in fields if field.name not in given and not tree.has_default(field)]
    if lacking:
        raise UserError(_missing(kind, given, lacking, present, where, name))
    return kind(**given)


def _missing(
    kind: type, given: dict[str, Any], lacking: list[str], present: Any, where: str, name: str
) -> str:
    """Which fields are not there, what they mean, and how it can be typed with the values of the object there is."""
    means = meanings.of(kind)
    lines = [f"{where}: {kind.__name__} also needs {', '.join(lacking)}."]
    lines += [f"  {field}: {means[field]}" for field in lacking]
    shown = {field: as_text(value) for field, value in given.items()}
    shown |= {
        field: as_text(getattr(present, field)) if hasattr(present, field) else "..." for field in lacking
    }
    whole = f"{kind.__name__}({', '.join(f'{field}={value}' for field, value in shown.items())})"
    taken = "It is written" if "..." in shown.values() else f"Fix, with what {type(present).__name__} has now"
    typed = f"{name}={whole}" if name else f'{where.partition("=")[0]}="{whole}"'
    return "\n".join([*lines, f"{taken}: {typed}"])


def as_text(value: Any) -> str:
    """A value as it is typed, for a shell's double quotes."""
    if dataclasses.is_dataclass(value):
        fields = (f"{f.name}={as_text(getattr(value, f.name))}" for f in dataclasses.fields(value) if f.init)
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, (tuple, list)):
        return f"({''.join(f'{as_text(item)}, ' for item in value)})"
    return repr(value)


def _kind(name: str, where: str) -> type:
    own = {kind.__name__: kind for kind in tree.trusted()}
    if name in own:
        return own[name]
    known = meanings.classes()
    if name not in known:
        same = [one for one in (*own, *known) if one.lower() == name.lower()]
        close = did_you_mean(name, same or [*own, *known])
        allowed = ", ".join(choices(where.removeprefix("--config.").partition("=")[0]))
        listed = f" Allowed are: {allowed}." if allowed else ""
        raise UserError(f"{where}: there is no component {name}.{close}{listed}")
    return getattr(importlib.import_module(known[name]), name)


@functools.cache
def choices(key: str) -> list[str]:
    """The classes of jaxlm that may stand at one of the keys with parts of their own; [] for another key."""
    if key not in _OFFERS:
        return []
    offer, package = _OFFERS[key]
    known = meanings.classes().items()
    kinds = [
        getattr(importlib.import_module(m), name) for name, m in known if m.startswith(f"jaxlm.{package}")
    ]
    kinds.sort(key=lambda kind: hasattr(kind, "around"))
    bases = {base for kind in kinds for base in kind.__mro__[1:]}
    return [kind.__name__ for kind in kinds if kind not in bases and hasattr(kind, offer)]
