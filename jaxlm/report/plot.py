"""A plot as HTML: lines fill their frame, texts beside them keep their size. In: a `Curve`. Out: `Markup`.

The drawing is complete without scripts; its data, as JSON beside it, are what page.js reads to show values. Both hold
values as they were measured: of many, those that stand out.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence

from jaxlm.report.curves import Curve, Series
from jaxlm.report.markup import Markup, tag
from jaxlm.report.scale import Scale, around, short

COLOURS = 8
_SIDE = 1000  # of the drawing, which is stretched to its frame
_POINTS = 1200  # of a line, at most
_SMOOTHED_FROM = {"train": 40, "": 300}  # points
_DOTS = 60  # points at most that are shown as such
_ROOM = 0.008  # of the width, for a letter


@dataclasses.dataclass(frozen=True)
class Mark:
    """Something that happened at a step."""

    step: int
    text: str
    run: int | None = None  # None: the same in all runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sheet:
    """What all plots of a page share."""

    x: Scale  # steps
    names: Sequence[str]  # of the runs
    marks: Sequence[Mark]


def plot(curve: Curve, sheet: Sheet, number: int, *, big: bool = False) -> Markup:
    """A figure; its `number` on the page is its own. A `big` one says what its marks are."""
    thin = [_thinned(one) for one in curve.series]
    values = [v for one in curve.series for v in one.values if v is not None]
    values += [level.value for level in curve.levels]
    scales = {"linear": around(values), "log": around(values, log=True)}
    shown = {name: scale for name, scale in scales.items() if scale is not None}
    switch, button, hint = f"log-{number}", None, "logarithmic axis"
    if "log" in shown:
        button = tag("label", "log", for_=switch, class_="button", title=hint)
    title = tag("span", curve.title, tag("small", f" {curve.unit}"), class_="title", title=curve.note or None)
    frame = [
        [_drawing(curve, thin, sheet, scale, name) for name, scale in shown.items()],
        [_below(sheet.x, k, step) for k, step in enumerate(sheet.x.ticks(6)) if step.is_integer()],
        _named(sheet) if big else None,
        _data(curve, thin, sheet, shown),
    ]
    return tag(
        "figure",
        button and tag("input", type="checkbox", id=switch, class_="switch", aria_label=hint),
        tag("figcaption", title, button),
        tag("div", frame, class_="frame"),
        class_="plot big" if big else "plot",
    )


def _drawing(curve: Curve, thin: Sequence[Series], sheet: Sheet, y: Scale, name: str) -> Markup:
    """Everything that depends on the scale `y`."""
    ticks = [v for v in y.ticks(5) if 0.0 <= y.at(v) <= 1.0]
    lines = [_path(f"M0 {_down(y, v)}H{_SIDE}", "grid") for v in ticks]
    lines += [
        _path(f"M{_across(sheet.x, m.step)} 0V{_SIDE}", f"happened {_colour(m.run)}") for m in sheet.marks
    ]
    lines += [_path(f"M0 {_down(y, one.value)}H{_SIDE}", f"level {_colour(one.run)}") for one in curve.levels]
    for one, whole in zip(thin, curve.series, strict=True):
        lines += _paths(one, whole, sheet.x, y)
    texts = [tag("span", short(v, percent=curve.percent), class_="y", style=_top(y, v)) for v in ticks]
    texts += [
        tag(
            "span",
            f"{one.text} {one.value:.3f}",
            class_=f"level {_colour(one.run)}",
            style=_top(y, one.value),
        )
        for one in curve.levels
    ]
    box = {"viewBox": f"0 0 {_SIDE} {_SIDE}", "preserveAspectRatio": "none", "aria_hidden": "true"}
    return tag("div", tag("svg", lines, **box), texts, class_=f"drawing {name}")


def _below(x: Scale, k: int, step: float) -> Markup:
    """Every other number gives way on a narrow page."""
    return tag("span", short(step), class_="x odd" if k % 2 else "x", style=_left(x, step))


def _named(sheet: Sheet) -> Iterator[Markup]:
    """The texts of the marks, as far as there is room; on the right they stand before their lines."""
    free, lines = 0.0, itertools.cycle(("first", "second"))  # of a narrow page
    for mark in sheet.marks:
        at, width = sheet.x.at(mark.step), _ROOM * len(mark.text)
        side, begin = ("before", at - width) if at > 0.6 else ("behind", at)
        if begin >= free:
            free = begin + width
            kind = f"mark {side} {next(lines)} {_colour(mark.run)}".strip()
            yield tag("span", mark.text, class_=kind, style=_left(sheet.x, mark.step))


def _paths(one: Series, whole: Series, x: Scale, y: Scale) -> Iterator[Markup]:
    """The line of a series; of a noisy one faintly, below its mean over neighbours; dots where points are few."""
    kind, colour, mean = one.kind.replace("-", "") or "only", _colour(one.run), _smoothed(whole)
    yield _path(_line(one, x, y), f"{kind} {colour}{' raw' if mean else ''}")
    if mean is not None:
        yield _path(_line(_thinned(mean), x, y), f"{kind} {colour}")
    if len(one.steps) == 1 or (one.kind == "held-out" and len(one.steps) <= _DOTS):
        yield _path(_line(one, x, y, dots=True), f"dots {colour}")


def _path(d: str, class_: str) -> Markup:
    return tag("path", d=d, class_=class_.strip(), vector_effect="non-scaling-stroke")


def _line(one: Series, x: Scale, y: Scale, *, dots: bool = False) -> str:
    """With gaps where nothing can be drawn; dots are lines without length."""
    words, pen = [], "M"
    for step, value in zip(one.steps, one.values, strict=True):
        if value is None or (y.log and value <= 0):
            pen = "M"
            continue
        words.append(f"{pen}{_across(x, step)} {_down(y, value)}{'h0' if dots else ''}")
        pen = "M" if dots else "L"
    return "".join(words)


def _smoothed(one: Series) -> Series | None:
    """Means over the neighbours on both sides, fewer near the ends; None for a short series, and held-out text."""
    values, size = [value for value in one.values if value is not None], len(one.values)
    if len(values) < size or size < _SMOOTHED_FROM.get(one.kind, math.inf):
        return None
    sums, reach, means = list(itertools.accumulate(values, initial=0.0)), max(size // 60, 1), []
    for k in range(size):
        near = min(reach, k, size - 1 - k)
        means.append((sums[k + near + 1] - sums[k - near]) / (2 * near + 1))
    return dataclasses.replace(one, values=means)


def _thinned(one: Series) -> Series:
    """At most so many points: of every stretch the lowest and the highest, and the ends."""
    size = len(one.steps)
    if size <= _POINTS:
        return one
    stretch = -(-2 * size // _POINTS)
    kept = {0, size - 1}
    for at in range(0, size, stretch):
        some = range(at, min(at + stretch, size))
        there = [k for k in some if one.values[k] is not None]
        value = lambda k: one.values[k]
        kept |= {min(there, key=value), max(there, key=value)} if there else {some[0]}
    chosen = sorted(kept)
    return dataclasses.replace(
        one, steps=[one.steps[k] for k in chosen], values=[one.values[k] for k in chosen]
    )


def _data(curve: Curve, thin: Sequence[Series], sheet: Sheet, scales: Mapping[str, Scale]) -> Markup:
    """What page.js reads."""
    series = [
        {
            "name": sheet.names[one.run],
            "kind": one.kind,
            "metric": one.metric,
            "colour": one.run % COLOURS,
            "x": one.steps,
            "y": one.values,
        }
        for one in thin
    ]
    bounds = {name: [scale.low, scale.high] for name, scale in {"x": sheet.x, **scales}.items()}
    made = {**bounds, "percent": curve.percent, "series": series}
    # No text inside may end the script.
    return tag("script", Markup(json.dumps(made).replace("<", "\\u003c")), type="application/json")


def _colour(run: int | None) -> str:
    return "" if run is None else f"c{run % COLOURS}"


def _left(x: Scale, step: float) -> str:
    return f"left:{100 * x.at(step):.2f}%"


def _top(y: Scale, value: float) -> str:
    return f"top:{100 * (1 - y.at(value)):.2f}%"


def _across(x: Scale, step: float) -> str:
    return f"{_SIDE * x.at(step):.1f}".removesuffix(".0")


def _down(y: Scale, value: float) -> str:
    return f"{_SIDE * (1 - y.at(value)):.1f}".removesuffix(".0")
