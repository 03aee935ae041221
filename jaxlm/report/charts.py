"""What is drawn of an evaluation. In: counts and shares. Out: a `Drawing`."""

from collections.abc import Sequence

import numpy as np

from jaxlm.report.drawing import BLUE, INK, PAPER, RED, Box, Drawing, Line, Text

_LETTER = 7.0  # width
_NAMED = 24  # letters of a name, at most
_NUMBERED = 24  # classes at most whose counts are written into the cells
_GREY, _FAINT = "#777777", "#dddddd"


def confusion(names: Sequence[str], counts_KK: np.ndarray) -> Drawing:
    """Right classes downwards, given ones across; the darker, the larger the share of its line."""
    short = [name if len(name) <= _NAMED else f"{name[: _NAMED - 1]}…" for name in names]
    side = 44.0 if len(names) <= _NUMBERED else max(6.0, 1000.0 / len(names))
    room = 40 + _LETTER * max(map(len, short), default=0)
    shapes: list[Box | Line | Text] = []
    shares_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    for i, name in enumerate(short):
        middle = room + (i + 0.5) * side
        shapes += [Text(room - 6, middle, name, "end"), Text(middle, room - 6, name, "start", upright=True)]
        for j, share in enumerate(shares_KK[i]):
            x, y = room + j * side, room + i * side
            shapes.append(Box(x, y, side - 1, side - 1, _mixed(BLUE if i == j else RED, share)))
            if len(names) <= _NUMBERED and counts_KK[i, j]:
                colour = PAPER if share > 0.5 else INK
                shapes.append(Text(x + side / 2, y + side / 2, f"{int(counts_KK[i, j]):,}", "middle", colour))
    middle, size = room + side * len(names) / 2, room + side * len(names) + 10
    shapes += [Text(14, middle, "right", upright=True), Text(middle, 14, "given")]
    return Drawing(
        "Confusion matrix: items of each right class (line) and given class (column)", size, size, shapes
    )


def reliability(counts: np.ndarray, shares: np.ndarray, hits: np.ndarray) -> Drawing:
    """Of bins of equal width how often answers are right, beside how sure the model is of them (their diagonal);
    below it the share of items in the bin."""
    side, room, below, bins = 300.0, 46.0, 70.0, len(counts)
    width, high = side / bins, max(int(counts.max(initial=0)), 1)
    shapes: list[Box | Line | Text] = []
    for k in range(6):
        x, y = room + side * k / 5, room / 2 + side * (1 - k / 5)
        shapes += [Line(room, y, room + side, y, _FAINT), Text(room - 6, y, f"{k / 5:.1f}", "end")]
        shapes.append(Text(x, room / 2 + side + below + 14, f"{k / 5:.1f}"))
    top, base = room / 2 + side, room / 2 + side + below
    for k in range(bins):
        if not counts[k]:
            continue
        x = room + k * width
        shapes.append(Box(x + 1, top - side * hits[k], width - 2, side * hits[k], BLUE))
        gap = sorted((hits[k], shares[k]))
        # Over-confident where it stands above the bar.
        shapes.append(Box(x + 1, top - side * gap[1], width - 2, side * (gap[1] - gap[0]), _mixed(RED, 0.5)))
        tall = (below - 10) * counts[k] / high
        shapes.append(Box(x + 1, base - tall, width - 2, tall, _GREY))
    shapes += [Line(room, top, room + side, top - side, INK, dashed=True), Line(room, top, room + side, top)]
    shapes += [
        Text(room + side / 2, base + 32, "probability of the answer"),
        Text(12, top - side / 2, "right", upright=True),
    ]
    shapes.append(Text(room - 6, base - below / 2, "items", "end"))
    return Drawing(
        "Reliability: how often answers are right (blue), and the gap to how sure the model is (red); items below",
        room + side + 14,
        base + 46,
        shapes,
    )


def _mixed(colour: str, share: float) -> str:
    """So much of a colour on paper."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (part - 255) * float(share)):02x}" for part in parts)
