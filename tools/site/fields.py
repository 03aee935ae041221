"""Fields of dataclasses in the reference: a table of name, type, meaning and default below the class.

A griffe extension: it reads sources and imports neither JAX nor what it shows. The meaning of a field is the comment
that stands behind it, which jaxlm/config/meanings.py finds.
"""

import importlib.util
import pathlib
import re
from typing import Any

import griffe

ROOT = pathlib.Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("meanings", ROOT / "jaxlm" / "config" / "meanings.py")
assert _SPEC and _SPEC.loader
meanings = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(meanings)


class Fields(griffe.Extension):
    """Puts the table behind the docstring of every dataclass that the reference shows."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """When all of the package is read."""
        for module in sorted({*meanings.classes().values(), "jaxlm.api", "jaxlm.batch"}):
            for one in pkg[module.removeprefix("jaxlm.")].classes.values():
                if "dataclass" in one.labels:
                    add(one)


def add(one: griffe.Class) -> None:
    """The table of a class, the fields of its bases first."""
    rows = {}
    for base in [*(base for base in reversed(one.mro()) if "dataclass" in base.labels), one]:
        said = meanings.of_file(str(base.filepath)).get(base.name, {})
        for name in filter(said.get, said):
            field = base.attributes[name]
            if "instance-attribute" not in field.labels:  # a ClassVar
                continue
            default = None if field.value is None else str(field.value)
            rows[name] = griffe.DocstringParameter(
                name, description=prose(said[name]), annotation=field.annotation, value=default
            )
    one.docstring = one.docstring or griffe.Docstring("", parent=one)
    sections: list[griffe.DocstringSection] = [griffe.DocstringSectionText(one.docstring.value)]
    if rows:
        sections.append(griffe.DocstringSectionParameters([*rows.values()], title="Fields"))
    one.docstring.__dict__["parsed"] = sections  # what griffe would make of the text alone


def prose(comment: str) -> str:
    """Markdown of a comment: brackets, stars and the like are themselves, but for what stands in backticks."""
    return re.sub(r"(`[^`]*`)|([\[\]*_<>|\\])", lambda m: m[1] or f"\\{m[2]}", comment)
