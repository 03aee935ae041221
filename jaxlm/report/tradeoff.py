"""Size against quality of several models: a picture, and which of them no other beats. In: points. Out: names, SVG."""

import dataclasses
from collections.abc import Iterator, Sequence

from jaxlm.report.markup import Markup, tag
from jaxlm.report.scale import Scale, around, short

_WIDTH, _HEIGHT = 900, 480
_LEFT, _RIGHT, _TOP, _BELOW = 80, 230, 30, 50  # room around the plot: on the right for names
_LETTER, _NAME = 15, 200  # height of a line, width of a name
_GREY, _INK, _BEST = "#ccc", "#333", "#0b66c3"


@dataclasses.dataclass(frozen=True)
class Point:
    """A model."""

    name: str
    bytes: int  # of its weights
    value: float  # of what is compared
    low: float  # of its interval; without one the value
    high: float


def front(points: Sequence[Point], *, higher: bool) -> list[Point]:
    """Pareto's: those that no other one beats in size or value and equals in the other, the smallest first.

    `higher`: whether a higher value is the better one.
    """
    found: list[Point] = []
    better = lambda one, other: one.value > other.value if higher else one.value < other.value
    for one in sorted(points, key=lambda p: (p.bytes, -p.value if higher else p.value)):
        if not found or better(one, found[-1]):
            found.append(one)
    return found


def picture(points: Sequence[Point], what: str, *, higher: bool) -> str:
    """An SVG: megabytes to the right, `what` upwards, 95 % intervals; a line through the front."""
    x = around([p.bytes / 1e6 for p in points], log=True)
    y = around([v for p in points for v in (p.value, p.low, p.high)])
    assert x is not None and y is not None
    best = front(points, higher=higher)
    across = lambda p: _across(x, p.bytes / 1e6)
    line = " ".join(f"{across(p):.1f},{_up(y, p.value):.1f}" for p in best)
    inside = [
        _grid(x, y),
        tag("polyline", points=line, fill="none", stroke=_BEST, stroke_width=2),
        *(_drawn(p, across(p), y, p in best) for p in points),
        *_names(points, best, x, y),
        _text(_LEFT, _TOP - 12, f"{what} ({'higher' if higher else 'lower'} is better)"),
        _text(_WIDTH - _RIGHT, _HEIGHT - 8, "MB of weights", anchor="end"),
    ]
    box = {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "font_family": "sans-serif", "font_size": 13}
    return tag("svg", inside, xmlns="http://www.w3.org/2000/svg", width=_WIDTH, height=_HEIGHT, **box) + "\n"


def _grid(x: Scale, y: Scale) -> list[Markup]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BELOW
    found = [tag("rect", width="100%", height="100%", fill="#fff")]
    for tick in x.ticks(8):
        at = _across(x, tick)
        found += [_line(at, _TOP, at, bottom, _GREY), _text(at, bottom + 18, short(tick), anchor="middle")]
    for tick in y.ticks(6):
        at = _up(y, tick)
        found += [_line(_LEFT, at, right, at, _GREY), _text(_LEFT - 8, at + 4, short(tick), anchor="end")]
    return found


def _drawn(point: Point, at: float, y: Scale, best: bool) -> list[Markup]:
    colour = _BEST if best else _INK
    up = _up(y, point.value)
    return [
        _line(at, _up(y, point.low), at, _up(y, point.high), colour),
        tag("circle", cx=f"{at:.1f}", cy=f"{up:.1f}", r=5, fill=colour),
    ]


def _names(points: Sequence[Point], best: Sequence[Point], x: Scale, y: Scale) -> Iterator[Markup]:
    """Beside the points, the upper ones first; lower where another stands there."""
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: _up(y, p.value)):
        across, up = _across(x, point.bytes / 1e6) + 9, _up(y, point.value) + 18
        while any(abs(up - other) < _LETTER and abs(across - begin) < _NAME for begin, other in taken):
            up += 1
        taken.append((across, up))
        yield _text(across, up, point.name, fill=_BEST if point in best else _INK)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> Markup:
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", stroke=colour)


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = _INK) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, fill=fill)


def _across(x: Scale, value: float) -> float:
    return _LEFT + (_WIDTH - _RIGHT - _LEFT) * x.at(value)


def _up(y: Scale, value: float) -> float:
    return _HEIGHT - _BELOW - (_HEIGHT - _BELOW - _TOP) * y.at(value)
