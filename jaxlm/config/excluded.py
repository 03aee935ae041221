"""Steps whose rows are never read. In: `Run.exclude`, spans (first, last) of steps. Out: batches to pass over."""

from typing import Any

from jaxlm.errors import UserError

Spans = tuple[tuple[int, int], ...]


def check(spans: Any, where: str) -> None:
    """UserError for what is no span of steps."""
    for span in spans:
        fits = isinstance(span, (tuple, list)) and len(span) == 2 and all(type(step) is int for step in span)
        if not fits or not 1 <= span[0] <= span[1]:
            raise UserError(
                f"{where}={spans!r}: allowed are spans of the first and the last step to pass over, such as "
                "((1200, 1260),)."
            )


def batches(spans: Spans, first: int) -> Spans:
    """Of a stage that begins after step `first`, the batches [first, end) that spans of steps name."""
    return tuple((max(a - 1 - first, 0), b - first) for a, b in spans if b > first)


def differ_from(given: Any, asked: Any) -> int | None:
    """The first step that may read other rows; None when none does. Spans as in JSON will do."""
    one, other = ([tuple(span) for span in spans] for spans in (given, asked))
    if one == other:
        return None
    common = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return min(first for first, _ in (*one[common:], *other[common:]))
