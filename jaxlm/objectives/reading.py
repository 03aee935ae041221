"""One vector for every item of a row. In: a model of any kind, rows of texts. Out: x_BCD.

`own` reads where transformers' ...ForSequenceClassification of the family does: an encoder at the first token ([CLS]),
a decoder at the last, and of an encoder-decoder its decoder at the last, which reads the same tokens one place later.
An item's vector comes from its own tokens only, wherever in a row it stands.
"""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Row, Vocabulary
from jaxlm.models.encoded import Encoded
from jaxlm.objectives import embeddings

# own: the token that stands for the item in its family, through the pooler where there is one. mean: of all its tokens.
Pooling = Literal["own", "mean"]


def of_row(row: Row) -> Batch:
    """The row as it is, without targets."""
    return Batch(
        tokens_BT=row.tokens_T, segments_BT=row.segments_T, positions_BT=row.positions_T, types_BT=row.texts_T
    )


def apart(row: Row, parts_T: np.ndarray, most: int) -> tuple[Batch, np.ndarray]:
    """Every part of an item is a segment of its own, `parts_T` its number within the item: the row without targets, and
    [C * most], int32: the first token of each segment, 0 in unused slots. Items have `most` parts each."""
    real, changes = row.segments_T > 0, np.ones(len(row.tokens_T), bool)
    changes[1:] = (np.diff(row.segments_T) != 0) | (np.diff(parts_T) != 0)
    begins = np.flatnonzero(real & changes)
    segments = np.where(real, np.cumsum(real & changes), 0).astype(np.int32)
    slots = most * len(row.first_C)
    first = np.zeros(slots, np.int32)
    first[: len(begins)] = begins
    starts = np.concatenate([[0], begins])[segments]
    batch = Batch(
        tokens_BT=row.tokens_T,
        segments_BT=segments,
        positions_BT=np.where(real, np.arange(len(starts)) - starts, 0).astype(np.int32),
        types_BT=np.zeros_like(row.texts_T),
        most_segments=slots,
    )
    return batch, first


def start(vocabulary: Vocabulary) -> np.ndarray:
    """int32 []: what a decoder begins with beside its encoder: as in BART eos, if texts have a first token, else as in
    T5 the padding."""
    begin, end = vocabulary.marks
    return np.array(end[0] if begin and end else vocabulary.pad, np.int32)


def items(
    model: Any, batch: Batch, key: Array | None, first_BC: Array, start_B: Array | None, pooling: Pooling
) -> tuple[Encoded, Array]:
    """What the row of texts was encoded to, and x_BCD: items are the segments 1, 2, ..., whose first tokens stand at
    `first_BC`."""
    if pooling == "mean":
        encoded = encode(model, batch, key, start_B)
        return encoded, embeddings.mean(encoded.x_BTD, batch.segments_BT, first_BC.shape[1])
    encoded = encode(
        model, batch, key, start_B, first_BC if model.config.kind == "encoder" else last(batch, first_BC)
    )
    return encoded, encoded.x_BTD


def encode(
    model: Any, batch: Batch, key: Array | None, start_B: Array | None, at_BM: Array | None = None
) -> Encoded:
    """The features of a row of texts; an encoder-decoder has it on both sides."""
    if model.config.kind != "encoder_decoder":
        return model.encode(batch, key, at_BM=at_BM)
    before_BT = jnp.roll(batch.tokens_BT, 1, axis=1)
    both = dataclasses.replace(
        batch,
        tokens_BT=jnp.where(batch.positions_BT == 0, jnp.asarray(start_B)[:, None], before_BT),
        source_tokens_BS=batch.tokens_BT,
        source_segments_BS=batch.segments_BT,
        source_positions_BS=batch.positions_BT,
    )
    return model.encode(both, key, at_BM=at_BM)


def last(batch: Batch, first_BC: Array) -> Array:
    """int32: place of the last token of every item; 0 in unused slots."""
    number_C = jnp.arange(1, first_BC.shape[1] + 1)
    sizes_BC = (batch.segments_BT[:, None, :] == number_C[None, :, None]).sum(axis=-1)
    return jnp.maximum(first_BC + sizes_BC - 1, 0)
