"""HTML that cannot be broken by what stands in it. In: names, attributes, children. Out: `Markup`.

A child that is no Markup is text, and escaped.
"""

import html
from collections.abc import Iterable
from typing import Any, TypeAlias


class Markup(str):
    """Text that is HTML already."""


Child: TypeAlias = "str | int | Markup | Iterable[Child] | None"
_VOID = {"meta", "input", "br", "path", "line"}


def tag(name: str, /, *children: Child, **attributes: Any) -> Markup:
    """<name attribute="value">children</name>: `class_` is class, `data_x` data-x; None and False are left out."""
    words = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            words.append(key if value is True else f'{key}="{html.escape(str(value))}"')
    begin = " ".join(words)
    if name in _VOID:
        return Markup(f"<{begin}>" if name in ("meta", "input", "br") else f"<{begin}/>")
    return Markup(f"<{begin}>{joined(children)}</{name}>")


def joined(children: Child) -> Markup:
    """Children one after the other."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, (str, int)):
        return Markup(html.escape(str(children)))
    return Markup("".join(map(joined, children)))
