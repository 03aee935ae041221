"""HTML that cannot be broken by what stands in it. In: names, attributes, children. Out: `Markup`.

A child that is no Markup is text, and escaped.
"""

import html
import re
from collections.abc import Iterable
from typing import Any, TypeAlias


class Markup(str):
    """Text that is HTML already."""


Child: TypeAlias = "str | int | Markup | Iterable[Child] | None"
_HOLE = re.compile(r"(\[MASK\]|<mask>|<extra_id_\d+>)")
_VOID = {"meta", "input"}


def tag(name: str, /, *children: Child, **attributes: Any) -> Markup:
    """<name attribute="value">children</name>: `class_` is class, `data_x` data-x; None and False are left out."""
    words = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            words.append(key if value is True else f'{key}="{html.escape(str(value))}"')
    begin = f"<{' '.join(words)}>"
    return Markup(begin if name in _VOID else f"{begin}{joined(children)}</{name}>")


def joined(children: Child) -> Markup:
    """Children one after the other."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, (str, int)):
        return Markup(html.escape(str(children)))
    return Markup("".join(map(joined, children)))


def with_holes(text: str) -> Child:
    """A text, or a token, in which the masks and sentinels stand out."""
    return [tag("mark", part) if number % 2 else part for number, part in enumerate(_HOLE.split(text))]
