"""What the model sees, as text. In: a batch and `token(id) -> str`. Out: plain text, a block per row.

For looking, not for parsing. Each item says where in the row it stands and which positions and token types it has. Of a
batch with some predicted positions a predicted token stands in its place as `shown→target`; of one with all targets in
place the line `predicts` stands below the line `sees`, `·` where nothing is predicted. A source row (of an
encoder-decoder) stands above, and what a causal model sees from both sides (a prefix) is in `[ ]`.
"""

from collections.abc import Callable

import numpy as np

from jaxlm.batch import Batch

Token = Callable[[int], str]


def show_batch(batch: Batch, token: Token, *, rows: int) -> str:
    """The first rows of a batch: tokens by segment with masks and targets visible, positions, types, labels."""
    host = Batch(**{k: None if v is None else np.asarray(v) for k, v in vars(batch).items()})
    return "\n\n".join(_row(host, b, token) for b in range(min(rows, len(host.tokens_BT))))


def _row(batch: Batch, b: int, token: Token) -> str:
    segments = batch.segments_BT[b]
    used, length, items = int((segments > 0).sum()), len(segments), int(segments.max(initial=0))
    targets = _targets(batch, b)
    number = len(targets)
    if batch.predict_BM is None and batch.weights_BM is not None:
        number = int((batch.weights_BM[b] > 0).sum())
    head = f"row {b}: {used} of {length} tokens used, {items} items, {number} predicted"
    if batch.source_segments_BS is not None:
        source = batch.source_segments_BS[b]
        head += f"; source {int((source > 0).sum())} of {len(source)} tokens used"
    lines = [head]
    for segment in range(1, items + 1):
        lines += _item(batch, b, segment, targets, token)
    return "\n".join(lines)


def _item(batch: Batch, b: int, segment: int, targets: dict[int, int], token: Token) -> list[str]:
    at = np.flatnonzero(batch.segments_BT[b] == segment)
    positions = batch.positions_BT[b][at]
    head = f"  item {segment}: row {at[0]}..{at[-1]}, positions {positions[0]}..{positions[-1]}"
    head += _types(batch, b, at) + _label(batch, b, segment)
    if batch.predict_BM is None and batch.targets_BM is not None:
        return [head, *_source(batch, b, segment, token), *_in_place(batch, b, at, token)]
    words = []
    for place in at.tolist():
        shown = token(int(batch.tokens_BT[b, place]))
        words.append(f"{shown}→{token(targets[place])}" if place in targets else shown)
    predicted = " ".join(str(place) for place in at.tolist() if place in targets)
    return [
        head,
        *_source(batch, b, segment, token),
        "    " + " ".join(words),
        f"    predicted at: {predicted or 'none'}",
    ]


def _in_place(batch: Batch, b: int, at: np.ndarray, token: Token) -> list[str]:
    """The two lines of an item whose targets are in place."""
    assert batch.targets_BM is not None and batch.weights_BM is not None
    words = [token(id) for id in batch.tokens_BT[b][at].tolist()]
    if batch.prefix_BT is not None and (prefix := int(batch.prefix_BT[b][at].sum())):
        words = ["[", *words[:prefix], "]", *words[prefix:]]
    real = batch.weights_BM[b][at] > 0
    wanted = [
        token(id) if one else "·" for id, one in zip(batch.targets_BM[b][at].tolist(), real, strict=True)
    ]
    return ["    sees:     " + " ".join(words), "    predicts: " + " ".join(wanted)]


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


def _targets(batch: Batch, b: int) -> dict[int, int]:
    if batch.predict_BM is None or batch.targets_BM is None or batch.weights_BM is None:
        return {}
    real = batch.weights_BM[b] > 0
    return dict(zip(batch.predict_BM[b][real].tolist(), batch.targets_BM[b][real].tolist(), strict=True))


def _label(batch: Batch, b: int, segment: int) -> str:
    if batch.labels_BC is None or batch.label_weights_BC is None or segment > batch.labels_BC.shape[1]:
        return ""
    return (
        f", label {int(batch.labels_BC[b, segment - 1])}"
        if batch.label_weights_BC[b, segment - 1] > 0
        else ""
    )
