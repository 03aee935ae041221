"""What the model sees, as text. In: a batch and `token(id) -> str`. Out: plain text, a block per row.

For looking, not for parsing. Each item says where in the row it stands and which positions and token types it has. Of a
batch with some predicted positions a predicted token stands in its place as `shown→target`; of one with all targets in
place the line `predicts` stands below the line `sees`, `·` where nothing is predicted. A source row (of an
encoder-decoder) stands above, and what a causal model sees from both sides (a prefix) is in `[ ]`.
"""

from collections.abc import Callable

import jax
import numpy as np

from jaxlm.batch import Batch, Shown

Token = Callable[[int], str]


def show_batch(batch: Batch, token: Token, *, rows: int) -> str:
    """The first rows of a batch: tokens by segment with masks and targets visible, positions, types, labels."""
    host = jax.tree.map(np.asarray, batch)
    return "\n\n".join(_row(host, b, token) for b in range(min(rows, len(host.tokens_BT))))


def _row(batch: Batch, b: int, token: Token) -> str:
    segments = batch.segments_BT[b]
    used, length, items = int((segments > 0).sum()), len(segments), int(segments.max(initial=0))
    asked = Shown() if batch.targets is None else batch.targets.show(b)
    head = f"row {b}: {used} of {length} tokens used, {items} items, {len(asked.wanted)} predicted"
    if batch.source_segments_BS is not None:
        source = batch.source_segments_BS[b]
        head += f"; source {int((source > 0).sum())} of {len(source)} tokens used"
    lines = [head]
    for segment in range(1, items + 1):
        lines += _item(batch, b, segment, asked, token)
    return "\n".join(lines)


def _item(batch: Batch, b: int, segment: int, asked: Shown, token: Token) -> list[str]:
    at = np.flatnonzero(batch.segments_BT[b] == segment)
    positions = batch.positions_BT[b][at]
    head = f"  item {segment}: row {at[0]}..{at[-1]}, positions {positions[0]}..{positions[-1]}"
    head += _types(batch, b, at) + (f", {asked.notes[segment]}" if segment in asked.notes else "")
    shown = (_in_place if asked.in_place else _marked)(batch, b, at, asked.wanted, token)
    return [head, *_source(batch, b, segment, token), *shown]


def _marked(batch: Batch, b: int, at: np.ndarray, wanted: dict[int, int], token: Token) -> list[str]:
    """The line of an item some of whose tokens are predicted, and where they stand."""
    words = []
    for place in at.tolist():
        shown = token(int(batch.tokens_BT[b, place]))
        words.append(f"{shown}→{token(wanted[place])}" if place in wanted else shown)
    predicted = " ".join(str(place) for place in at.tolist() if place in wanted)
    return ["    " + " ".join(words), f"    predicted at: {predicted or 'none'}"]


def _in_place(batch: Batch, b: int, at: np.ndarray, wanted: dict[int, int], token: Token) -> list[str]:
    """The two lines of an item whose targets are in place."""
    words = [token(id) for id in batch.tokens_BT[b][at].tolist()]
    if batch.prefix_BT is not None and (prefix := int(batch.prefix_BT[b][at].sum())):
        words = ["[", *words[:prefix], "]", *words[prefix:]]
    targets = [token(wanted[place]) if place in wanted else "·" for place in at.tolist()]
    return ["    sees:     " + " ".join(words), "    predicts: " + " ".join(targets)]


def _source(batch: Batch, b: int, segment: int, token: Token) -> list[str]:
    if batch.source_segments_BS is None or batch.source_tokens_BS is None:
        return []
    at = batch.source_segments_BS[b] == segment
    return ["    source:   " + " ".join(token(id) for id in batch.source_tokens_BS[b][at].tolist())]


def _types(batch: Batch, b: int, at: np.ndarray) -> str:
    if batch.types_BT is None:
        return ""
    types = batch.types_BT[b][at]
    runs = np.split(types, np.flatnonzero(np.diff(types)) + 1)
    return ", " + " then ".join(f"type {run[0]} x{len(run)}" for run in runs)
