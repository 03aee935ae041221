"""Rows as the model saw them. In: rows/stage-N.json. Out: tokens in the tint of their document, with their targets."""

from typing import Any

from jaxlm.report.markup import Child, Markup, tag
from jaxlm.report.told import Told

_TINTS = 6


def section(run: Told) -> list[Markup]:
    """Of one run, stage by stage."""
    if not run.rows:
        text = f"This run folder keeps no rows (it is of an earlier version): jaxlm stream --run={run.folder} --step=1"
        return [tag("p", text, class_="quiet")]
    made = [
        tag(
            "details",
            tag("summary", _title(run, stage)),
            [_task(name, rows) for name, rows in tasks.items()],
            open=first,
        )
        for first, (stage, tasks) in zip([True, *[False] * len(run.rows)], run.rows.items(), strict=False)
    ]
    legend = "Every document of a row has a tint of its own. What stands below a token is to be predicted at its place."
    return [tag("p", legend, class_="quiet"), *made]


def _title(run: Told, stage: int) -> str:
    length = run.config["stages"][stage]["length"] if stage < len(run.config["stages"]) else "?"
    return f"Stage {stage + 1}: the first rows, {length} tokens each"


def _task(name: str, rows: list[dict[str, Any]]) -> list[Markup]:
    return [*([tag("h4", f"task {name}")] if name else []), *map(_row, rows)]


def _row(row: dict[str, Any]) -> Markup:
    head = row["head"]
    if row["in_place"]:
        head += "; the next token, except at the pale ones"
    sources = [item for item in row["items"] if item["source"] is not None]
    return tag(
        "div",
        tag("p", head, class_="head"),
        tag("div", tag("b", "source"), map(_source, sources), class_="tokens") if sources else None,
        tag(
            "div",
            tag("b", "target") if sources else None,
            [_item(i, in_place=row["in_place"]) for i in row["items"]],
            class_="tokens",
        ),
        class_="row",
    )


def _source(item: dict[str, Any]) -> Markup:
    return tag("span", [_token(one) for one in item["source"]], class_=_tint(item))


def _item(item: dict[str, Any], *, in_place: bool) -> Markup:
    pairs = list(zip(item["tokens"], item["targets"], strict=True))
    words = []
    for place, (token, target) in enumerate(pairs):
        if in_place:
            words.append(_in_place(token, target, prefix=place < item["prefix"]))
        else:
            words.append(_token(token, target))
    about = f"item {item['number']}, positions {item['positions'][0]} to {item['positions'][-1]}"
    return tag("span", words, title=", ".join(filter(None, (about, item["note"]))), class_=_tint(item))


def _token(token: str, target: str | None = None) -> Child:
    if target is None:
        return [tag("i", token), " "]
    return [tag("i", token, tag("small", target), class_="asked"), " "]


def _in_place(token: str, target: str | None, *, prefix: bool) -> Child:
    """The target stands in a hint: of most tokens it is the next one."""
    kind = "prefix" if prefix else ("pale" if target is None else None)
    return [tag("i", token, class_=kind, title=None if target is None else f"predicts {target}"), " "]


def _tint(item: dict[str, Any]) -> str:
    return f"item t{(item['number'] - 1) % _TINTS}"
