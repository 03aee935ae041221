"""A drawing of boxes, lines and texts. In: shapes in units of a pixel. Out: an .svg that opens anywhere, or a .png.

The .png needs matplotlib, which is not installed with jaxlm.
"""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

from jaxlm.report.markup import Markup, tag

INK, PAPER, BLUE, RED = "#222222", "#ffffff", "#2f6fde", "#d1495b"
_FONT = 12


@dataclasses.dataclass(frozen=True)
class Box:
    """From its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclasses.dataclass(frozen=True)
class Line:
    """From one point to another."""

    x: float
    y: float
    to_x: float
    to_y: float
    colour: str = INK
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Text:
    """Centred vertically on its point."""

    x: float
    y: float
    text: str
    at: Literal["start", "middle", "end"] = "middle"
    colour: str = INK
    upright: bool = False  # written from below to above


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Later shapes lie upon earlier ones; y grows downwards."""

    title: str
    width: float
    height: float
    shapes: Sequence[Box | Line | Text]

    def svg(self) -> Markup:
        """A whole file."""
        box = {"viewBox": f"0 0 {self.width:g} {self.height:g}", "width": self.width, "height": self.height}
        paper = tag("rect", width="100%", height="100%", fill=PAPER)
        font = {"font_family": "sans-serif", "font_size": _FONT, "role": "img"}
        made = [tag("title", self.title), paper, [_svg(shape) for shape in self.shapes]]
        return tag("svg", made, xmlns="http://www.w3.org/2000/svg", **box, **font)

    def write(self, folder: pathlib.Path, name: str) -> list[str]:
        """The names of the files that were made: name.svg, and name.png where matplotlib is installed."""
        (folder / f"{name}.svg").write_text(self.svg() + "\n", encoding="utf-8")
        if importlib.util.find_spec("matplotlib") is None:
            return [f"{name}.svg"]
        self._png(folder / f"{name}.png")
        return [f"{name}.svg", f"{name}.png"]

    def _png(self, path: pathlib.Path) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width / 100, self.height / 100), dpi=200, facecolor=PAPER)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        for order, shape in enumerate(self.shapes):
            _matplotlib(axes, shape, order)
        figure.savefig(path)


def _svg(shape: Box | Line | Text) -> Markup:
    if isinstance(shape, Box):
        size = {"x": _n(shape.x), "y": _n(shape.y), "width": _n(shape.width), "height": _n(shape.height)}
        return tag("rect", **size, fill=shape.colour)
    if isinstance(shape, Line):
        ends = {"x1": _n(shape.x), "y1": _n(shape.y), "x2": _n(shape.to_x), "y2": _n(shape.to_y)}
        return tag("line", **ends, stroke=shape.colour, stroke_dasharray="4 4" if shape.dashed else None)
    turned = f"rotate(-90 {_n(shape.x)} {_n(shape.y)})" if shape.upright else None
    where = {"x": _n(shape.x), "y": _n(shape.y), "dy": "0.35em", "text_anchor": shape.at}
    return tag("text", shape.text, **where, fill=shape.colour, transform=turned)


def _matplotlib(axes: Any, shape: Box | Line | Text, order: int) -> None:
    from matplotlib.patches import Rectangle

    if isinstance(shape, Box):
        at = (shape.x, shape.y)
        style = {"facecolor": shape.colour, "linewidth": 0, "zorder": order}
        axes.add_patch(Rectangle(at, shape.width, shape.height, **style))
    elif isinstance(shape, Line):
        style = {"linewidth": 0.72, "linestyle": "--" if shape.dashed else "-", "zorder": order}
        axes.plot([shape.x, shape.to_x], [shape.y, shape.to_y], color=shape.colour, **style)
    else:
        side = {"start": "left", "middle": "center", "end": "right"}[shape.at]
        turned: dict[str, Any] = (
            {"rotation": 90, "ha": "center", "va": {"left": "bottom", "right": "top"}.get(side, "center")}
            if shape.upright
            else {"ha": side, "va": "center"}
        )
        # $ would begin a formula.
        text = shape.text.replace("$", r"\$")
        axes.text(shape.x, shape.y, text, color=shape.colour, fontsize=0.72 * _FONT, zorder=order, **turned)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
