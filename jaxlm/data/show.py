"""What the model sees, for people. In: a batch and `token(id) -> str`. Out: rows as plain data, or as text.

For looking, not for parsing. Each item says where in the row it stands and which positions and token types it has. In
the text of a batch with some predicted positions a predicted token stands in its place as `shown→target`; of one with
all targets in place the line `predicts` stands below the line `sees`, `·` where nothing is predicted. A source row (of
an encoder-decoder) stands above, and what a causal model sees from both sides (a prefix) is in `[ ]`.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxlm.batch import Batch, Shown

Token = Callable[[int], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A segment of a row: plain values, as JSON has them."""

    number: int  # from 1
    places: list[int]  # of its tokens in the row
    positions: list[int]
    types: list[int] | None
    tokens: list[str]
    targets: list[str | None]  # to predict at these places
    prefix: int  # tokens that a causal model sees from both sides
    source: list[str] | None  # of an encoder-decoder
    note: str  # what is asked of the item


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a batch, plain values."""

    head: str  # how full it is
    in_place: bool  # every token may have a target
    items: list[Item]


def described(batch: Batch, token: Token, *, rows: int) -> list[Row]:
    """The first rows of a batch."""
    host = jax.tree.map(np.asarray, batch)
    return [_row(host, b, token) for b in range(min(rows, len(host.tokens_BT)))]


def show_batch(batch: Batch, token: Token, *, rows: int) -> str:
    """The first rows of a batch: tokens by segment with masks and targets visible, positions, types, labels."""
    return "\n\n".join(map(_text, described(batch, token, rows=rows)))


def _row(batch: Batch, b: int, token: Token) -> Row:
    segments = batch.segments_BT[b]
    asked = Shown() if batch.targets is None else batch.targets.show(b)
    used, items = int((segments > 0).sum()), int(segments.max(initial=0))
    head = f"row {b}: {used} of {len(segments)} tokens used, {items} items, {len(asked.wanted)} predicted"
    if batch.source_segments_BS is not None:
        source = batch.source_segments_BS[b]
        head += f"; source {int((source > 0).sum())} of {len(source)} tokens used"
    made = [_item(batch, b, number, asked, token) for number in range(1, items + 1)]
    return Row(head=head, in_place=asked.in_place, items=made)


def _item(batch: Batch, b: int, number: int, asked: Shown, token: Token) -> Item:
    at = np.flatnonzero(batch.segments_BT[b] == number)
    return Item(
        number=number,
        places=at.tolist(),
        positions=batch.positions_BT[b][at].tolist(),
        types=None if batch.types_BT is None else batch.types_BT[b][at].tolist(),
        tokens=[token(id) for id in batch.tokens_BT[b][at].tolist()],
        targets=[token(asked.wanted[place]) if place in asked.wanted else None for place in at.tolist()],
        prefix=0 if batch.prefix_BT is None else int(batch.prefix_BT[b][at].sum()),
        source=_source(batch, b, number, token),
        note=asked.notes.get(number, ""),
    )


def _source(batch: Batch, b: int, number: int, token: Token) -> list[str] | None:
    if batch.source_segments_BS is None or batch.source_tokens_BS is None:
        return None
    at = batch.source_segments_BS[b] == number
    return [token(id) for id in batch.source_tokens_BS[b][at].tolist()]


def _text(row: Row) -> str:
    return "\n".join(
        [row.head, *(line for item in row.items for line in _lines(item, in_place=row.in_place))]
    )


def _lines(item: Item, *, in_place: bool) -> list[str]:
    places, positions = item.places, item.positions
    head = f"  item {item.number}: row {places[0]}..{places[-1]}, positions {positions[0]}..{positions[-1]}"
    head += _types(item.types) + (f", {item.note}" if item.note else "")
    source = [] if item.source is None else ["    source:   " + " ".join(item.source)]
    return [head, *source, *(_in_place if in_place else _marked)(item)]


def _marked(item: Item) -> list[str]:
    """The line of an item some of whose tokens are predicted, and where they stand."""
    pairs = list(zip(item.tokens, item.targets, strict=True))
    words = [shown if target is None else f"{shown}→{target}" for shown, target in pairs]
    asked = zip(item.places, item.targets, strict=True)
    predicted = " ".join(str(place) for place, target in asked if target is not None)
    return ["    " + " ".join(words), f"    predicted at: {predicted or 'none'}"]


def _in_place(item: Item) -> list[str]:
    """The two lines of an item whose targets are in place."""
    words = item.tokens
    if item.prefix:
        words = ["[", *words[: item.prefix], "]", *words[item.prefix :]]
    targets = ["·" if target is None else target for target in item.targets]
    return ["    sees:     " + " ".join(words), "    predicts: " + " ".join(targets)]


def _types(types: Sequence[int] | None) -> str:
    if types is None:
        return ""
    values = np.asarray(types)
    runs = np.split(values, np.flatnonzero(np.diff(values)) + 1)
    return ", " + " then ".join(f"type {run[0]} x{len(run)}" for run in runs)
