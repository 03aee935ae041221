"""Rows as the model saw them. In: rows/stage-N.json. Out: tokens in the tint of their document, with their targets."""

from collections.abc import Iterator
from typing import Any

from jaxlm.report.markup import Child, Markup, tag, with_holes
from jaxlm.report.told import Told

_TINTS = 6


_LEGEND = "Every document of a row has a tint of its own. What stands below a token is to be predicted at its place."


def section(run: Told) -> list[Markup]:
    """Of one run, stage by stage."""
    try:
        made = [_stage(run, stage, tasks) for stage, tasks in run.rows.items()]
    except (KeyError, TypeError, AttributeError):  # a file that was damaged, or is of a later version
        made = []
    if not made:
        text = "There are no rows that this version can read. "
        return [
            tag(
                "p",
                text,
                tag("code", f"jaxlm stream --run={run.folder} --step=1"),
                " shows documents.",
                class_="quiet",
            )
        ]
    return [tag("p", _LEGEND, class_="quiet"), *made]


def _stage(run: Told, stage: int, tasks: dict[str, Any]) -> Markup:
    rows = [_task(name, rows) for name, rows in tasks.items()]
    return tag("details", tag("summary", _title(run, stage)), rows, open=stage == min(run.rows))


def _title(run: Told, stage: int) -> str:
    length = run.config["stages"][stage]["length"] if stage < len(run.config["stages"]) else "?"
    return f"Stage {stage + 1}: the first rows, {length} tokens each"


def _task(name: str, rows: list[dict[str, Any]]) -> list[Markup]:
    return [*([tag("h4", f"task {name}")] if name else []), *map(_row, rows)]


def _row(row: dict[str, Any]) -> Markup:
    place = _in_place if row["in_place"] else _marked
    note = "; at each token the next one, at pale ones nothing" if row["in_place"] else ""
    sources = [item for item in row["items"] if item["source"] is not None]
    return tag(
        "div",
        tag("p", row["head"], note, class_="head"),
        tag("div", tag("b", "source"), map(_source, sources), class_="tokens") if sources else None,
        tag(
            "div",
            tag("b", "target") if sources else None,
            [_item(i, place(i)) for i in row["items"]],
            class_="tokens",
        ),
        class_="row",
    )


def _source(item: dict[str, Any]) -> Markup:
    return tag("span", [[tag("i", with_holes(token)), " "] for token in item["source"]], class_=_tint(item))


def _item(item: dict[str, Any], words: Child) -> Markup:
    about = f"item {item['number']}, positions {item['positions'][0]} to {item['positions'][-1]}"
    note = tag("em", item["note"], " ") if item["note"] else None
    return tag("span", words, note, title=about, class_=_tint(item))


def _marked(item: dict[str, Any]) -> Iterator[Child]:
    """The target stands below its token."""
    for token, target in zip(item["tokens"], item["targets"], strict=True):
        below = None if target is None else tag("small", target)
        yield [tag("i", token, below, class_=None if target is None else "asked"), " "]


def _in_place(item: dict[str, Any]) -> Iterator[Child]:
    """The target stands in a hint: of most tokens it is the next one."""
    for place, (token, target) in enumerate(zip(item["tokens"], item["targets"], strict=True)):
        kind = "prefix" if place < item["prefix"] else ("pale" if target is None else None)
        hint = None if target is None else f"predicts {target}"
        yield [tag("i", with_holes(token), class_=kind, title=hint), " "]


def _tint(item: dict[str, Any]) -> str:
    return f"item t{(item['number'] - 1) % _TINTS}"
