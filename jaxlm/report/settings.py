"""What runs were told to do, and where they differ. In: configurations as JSON. Out: tables."""

import json
from collections.abc import Sequence
from typing import Any

from jaxlm.report import figures
from jaxlm.report.markup import Markup, tag
from jaxlm.report.told import Told


def section(runs: Sequence[Told]) -> list[Markup]:
    """The differences, then every configuration folded."""
    return [_differences(runs) if len(runs) > 1 else _typed(runs[0]), *map(_whole, runs)]


def flat(value: Any, path: str = "") -> dict[str, str]:
    """{path: value}, in the order of the configuration; an object's class stands at its own path."""
    if isinstance(value, dict):
        found = {path: figures.kind(value)} if path and "type" in value else {}
        for key, child in value.items():
            if key != "type":
                found |= flat(child, f"{path}.{key}" if path else key)
        return found
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {p: leaf for k, child in enumerate(value) for p, leaf in flat(child, f"{path}[{k}]").items()}
    return {path: value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}


def differing(runs: Sequence[Told]) -> list[tuple[str, list[str]]]:
    """(path, value of every run), where not all have the same."""
    every = [{**flat(run.config), **_files(run)} for run in runs]
    paths = dict.fromkeys(path for one in every for path in one)
    rows = [(path, [one.get(path, figures.NONE) for one in every]) for path in paths]
    return [(path, values) for path, values in rows if len(set(values)) > 1]


def _files(run: Told) -> dict[str, str]:
    """What defined the run, in so far as its recipe noted it."""
    found = {f"file {name}": f"SHA-256 {sha[:12]}" for name, sha in run.code.get("files", {}).items()}
    return {"recipe": figures.recipe(run), **found}


def _differences(runs: Sequence[Told]) -> Markup:
    rows = differing(runs)
    if not rows:
        return tag("p", "All runs have the same settings.")
    head = tag("tr", tag("th", "setting"), [tag("th", run.name) for run in runs])
    body = [
        tag("tr", tag("th", path, scope="row"), [tag("td", value) for value in values])
        for path, values in rows
    ]
    return scrolled(tag("table", tag("thead", head), tag("tbody", body)))


def _typed(run: Told) -> Markup:
    """Of one run, what was changed on the command line of its newest start that changed something."""
    typed = next((start["overrides"] for start in reversed(run.starts) if start.get("overrides")), {})
    if not run.starts:
        return tag("p", "This version of the run folder does not note what was changed on the command line.")
    name = figures.recipe(run)
    if not typed:
        return tag("p", f"Nothing was changed on the command line, beside the recipe {name}.")
    rows = [tag("tr", tag("th", key, scope="row"), tag("td", value)) for key, value in typed.items()]
    return tag(
        "div",
        tag("p", f"Changed on the command line, beside the recipe {name}:"),
        scrolled(tag("table", rows)),
    )


def _whole(run: Told) -> Markup:
    rows = [
        tag("tr", tag("th", key, scope="row"), tag("td", value)) for key, value in flat(run.config).items()
    ]
    return tag(
        "details", tag("summary", f"All settings of {run.name}"), scrolled(tag("table", rows, class_="fine"))
    )


def scrolled(table: Markup) -> Markup:
    """A table that may be wider than the page."""
    return tag("div", table, class_="scrolled")
