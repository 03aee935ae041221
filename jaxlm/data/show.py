"""What the model sees, as text. In: a batch and `token(id) -> str`. Out: plain text, a block per row.

For looking, not for parsing. A predicted token stands in its place as `shown→target`; each item says where in the row
it stands and which positions and token types it has.
"""

from collections.abc import Callable

import numpy as np

from jaxlm.batch import Batch


def show_batch(batch: Batch, token: Callable[[int], str], *, rows: int) -> str:
    """The first rows of a batch: tokens by segment with masks and targets visible, positions, types, labels."""
    host = Batch(**{k: None if v is None else np.asarray(v) for k, v in vars(batch).items()})
    return "\n\n".join(_row(host, b, token) for b in range(min(rows, len(host.tokens_BT))))


def _row(batch: Batch, b: int, token: Callable[[int], str]) -> str:
    segments = batch.segments_BT[b]
    targets = _targets(batch, b)
    used, length = int((segments > 0).sum()), len(segments)
    lines = [
        f"row {b}: {used} of {length} tokens used, {int(segments.max(initial=0))} items, {len(targets)} predicted"
    ]
    for segment in range(1, int(segments.max(initial=0)) + 1):
        lines += _item(batch, b, segment, targets, token)
    return "\n".join(lines)


def _item(
    batch: Batch, b: int, segment: int, targets: dict[int, int], token: Callable[[int], str]
) -> list[str]:
    at = np.flatnonzero(batch.segments_BT[b] == segment)
    positions, types = batch.positions_BT[b][at], batch.types_BT[b][at]
    changes = np.flatnonzero(np.diff(types)) + 1
    type_runs = " then ".join(f"type {run[0]} x{len(run)}" for run in np.split(types, changes))
    head = f"  item {segment}: row {at[0]}..{at[-1]}, positions {positions[0]}..{positions[-1]}, {type_runs}"
    words = []
    for place in at.tolist():
        shown = token(int(batch.tokens_BT[b, place]))
        words.append(f"{shown}→{token(targets[place])}" if place in targets else shown)
    predicted = " ".join(str(place) for place in at.tolist() if place in targets)
    return [
        head + _label(batch, b, segment),
        "    " + " ".join(words),
        f"    predicted at: {predicted or 'none'}",
    ]


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
