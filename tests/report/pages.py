"""Reads a page of `jaxlm report` as a browser does: elements, texts, data of its curves."""

import dataclasses
import html.parser
import json
from typing import Any

VOID = {"meta", "input"}


@dataclasses.dataclass
class Element:
    """With what stands in it, in order."""

    name: str
    attributes: dict[str, str | None]
    children: list[Any] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it, without scripts and styles."""
        hidden = self.name in ("script", "style")
        return "" if hidden else "".join(c if isinstance(c, str) else c.text for c in self.children)

    def all(self, name: str, class_: str = "") -> list["Element"]:
        """The elements of a name and class below this one."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                classes = (child.attributes.get("class") or "").split()
                found += [child] if child.name == name and (not class_ or class_ in classes) else []
                found += child.all(name, class_)
        return found

    def section(self, title: str) -> "Element":
        """The one under a heading."""
        return next(one for one in self.all("section") if one.all("h2")[0].text.startswith(title))

    def table(self) -> list[list[str]]:
        """The cells of the first table below."""
        rows = self.all("table")[0].all("tr")
        return [[c.text for c in row.children if isinstance(c, Element)] for row in rows]


class _Parser(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        one = Element(tag, dict(attrs))
        self.open[-1].children.append(one)
        if tag not in VOID:
            self.open.append(one)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> ends <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parsed(text: str) -> Element:
    """The page; AssertionError where an element ends that is not open."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert len(parser.open) == 1, parser.open
    return parser.root


def curves(page: Element) -> dict[str, dict[tuple[str, str], tuple[list[int], list[float | None]]]]:
    """{title: {(run, metric): (steps, values)}} as the page's script reads them."""
    found = {}
    for figure in page.all("figure"):
        (script,) = figure.all("script")
        series = json.loads(script.children[0])["series"]
        title = figure.all("span", "title")[0].children[0]
        found[title] = {(one["name"], one["metric"]): (one["x"], one["y"]) for one in series}
    return found
