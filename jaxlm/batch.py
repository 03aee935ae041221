"""The contract between data, objective and model: Vocabulary, Row, Batch, Loss.

The data pipeline makes a `Row` (numpy, one row of packed items), an objective's `prepare` turns it into the
fields of a `Batch` (numpy on the host, global `jax.Array`s on the devices: the same class), a model reads the
batch, and the objective's `loss` returns a `Loss`. Nothing else passes between these three.

Shape letters, for the whole project (suffixes of variable and field names, and einsum subscripts):
    B batch rows     T query length    S key length          D model width    F hidden width of the MLP
    N query heads    K key/value heads H head width          V vocabulary     L layers
    M predicted positions per row      C items (sentences, pairs, documents) per row       E experts
"""

import dataclasses
from typing import Any

import jax
import numpy as np

# Arrays are numpy on the host and jax on the device, behind one set of fields.
Array = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What data and objectives need to know of a tokenizer: ids only, no text.

    `special_V` marks tokens that are never masked nor drawn at random ([PAD], [CLS], [SEP], [MASK], ...; [UNK] is not
    special here). `continues_V` marks pieces that continue a word ('##ing', or no leading space marker).
    """

    size: int
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int
    special_V: np.ndarray  # bool
    continues_V: np.ndarray  # bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of token ids on the host, before an objective touches it; all int32.

    Items stand one after another from position 0, each `[CLS] ... [SEP]` or `[CLS] a [SEP] b [SEP]`; what is left is
    padding (token `pad`, segment 0).
    """

    tokens_T: np.ndarray
    segments_T: np.ndarray  # 1, 2, ... for the items in order; 0 is padding
    positions_T: np.ndarray  # restart at 0 for every item
    types_T: np.ndarray  # 0, or 1 in the second sentence of a pair
    first_C: np.ndarray  # position of every item's [CLS]; 0 in unused slots
    labels_C: np.ndarray  # the item's label (next sentence: 0 is next, 1 is random); -1 in unused slots


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """What a model sees. int32 unless said otherwise. A field that an objective does not use is None."""

    tokens_BT: Array  # input ids, masks applied
    segments_BT: Array  # item number within the row from 1; 0 is padding. Attention stays within a segment
    positions_BT: Array  # position within the item
    types_BT: Array  # token type (sentence A 0, B 1)
    predict_BM: Array | None = None  # positions in the row that carry a target; 0 in unused slots
    targets_BM: Array | None = None  # ids to predict there; 0 in unused slots
    weights_BM: Array | None = None  # float32: 1 where a target is real, else 0
    first_BC: Array | None = None  # position of every item's [CLS]; 0 in unused slots
    labels_BC: Array | None = None  # item label; 0 in unused slots
    label_weights_BC: Array | None = None  # float32: 1 where an item is real, else 0


# (sum, weight): divided only at the very end, so that accumulation, packing, padding and any mesh agree.
Pair = tuple[Array, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
    """What is minimised is the sum over `terms` of sum/weight; `measures` are only reported."""

    terms: dict[str, Pair]
    measures: dict[str, Pair]
