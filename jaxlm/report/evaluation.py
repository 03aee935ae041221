"""One page about an evaluation. In: metrics, drawings, the worst items. Out: HTML that holds all it needs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.report.drawing import Drawing
from jaxlm.report.markup import Child, Markup, tag

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
tr + tr td { border-top: 1px solid #ddd; } td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { overflow-x: auto; } figure { margin: 0; overflow-x: auto; } figcaption { color: #666; } svg { max-width: 100%; }
.scroll { overflow-x: auto; } small { color: #666; }
"""


def page(
    title: str,
    about: str,
    metrics: Mapping[str, Any],
    drawings: Mapping[str, Drawing],
    table: str,
    worst: Sequence[Mapping[str, Any]],
) -> str:
    """`metrics`: intervals by name; `worst`: where, right, answer, item and fault of items, the worst first."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    )
    lines = [[name, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}"] for name, one in metrics.items()]
    body: list[Child] = [
        tag("h1", title),
        tag("p", about),
        _table(["metric", "value", "95 % interval"], lines),
    ]
    for one in drawings.values():
        body.append(
            tag("figure", tag("h2", one.title.partition(":")[0]), one.svg(), tag("figcaption", one.title))
        )
    if table:
        body += [tag("h2", "In detail"), tag("pre", table)]
    if worst:
        names = ["where", "fault", "item", "right", "answer"]
        rows = [[_written(one.get(name, "")) for name in names] for one in worst]
        note = tag("small", " the worst first; the larger the fault, the further from the right answer")
        body += [tag("h2", "Errors", note), tag("div", _table(names, rows), class_="scroll")]
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    cells = lambda row: [tag("td", cell, class_="number" if k == 1 else None) for k, cell in enumerate(row)]
    head = tag("tr", [tag("th", name) for name in names])
    return tag("table", tag("thead", head), tag("tbody", [tag("tr", cells(row)) for row in rows]))


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping) and len(value) == 1:
        return _written(next(iter(value.values())))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
