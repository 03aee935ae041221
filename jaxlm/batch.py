"""The contract between data, objective and model: Vocabulary, Row, Batch, Loss.

The data pipeline makes a `Row` (numpy, one row of packed items), an objective's `prepare` turns it into one row of a
`Batch` (numpy on the host, global `jax.Array`s on the devices: the same class): what a model sees, and in `targets`
what the objective alone reads. A model reads the batch, and the objective's `loss` returns a `Loss`. Nothing else
passes between these three. A step takes a mapping of task to `Batch`; a run of one objective has one task, named "".

Shape letters, for the whole project (suffixes of variable and field names, and einsum subscripts):
    B batch rows     T query length    S key length, and the length of an encoder-decoder's source row
    D model width    F hidden width of the MLP               V vocabulary     L layers
    N query heads    K key/value heads H head width          E experts
    M predicted positions per row      C items (sentences, pairs, documents) per row
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import jax
import numpy as np

from jaxlm.errors import UserError

NONE = -1  # where a column says nothing
# Arrays are numpy on the host and jax on the device, behind one set of fields.
Array = Any

# What a model's config says of itself, and what an objective asks for (`trains`). A pair is a generator and a
# discriminator.
Kind = Literal["encoder", "decoder", "encoder_decoder", "pair"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What data and objectives need to know of a tokenizer: ids only, no text. -1: the tokenizer has no such token.

    `special_V` marks tokens that are never masked nor drawn at random ([PAD], [CLS], [SEP], [MASK], ...; [UNK] is not
    special here). `continues_V` marks pieces that continue a word ('##ing', or no leading space marker).
    """

    size: int
    pad: int  # of a tokenizer without one: `eos`, since padding is known by its segment and never by its id
    unk: int = -1
    cls: int = -1
    sep: int = -1
    mask: int = -1
    bos: int = -1  # begins a text for a decoder; of GPT-2 the same id as `eos`
    eos: int = -1
    sentinels: tuple[int, ...] = ()  # <extra_id_0>, <extra_id_1>, ...: stand for spans (T5, UL2)
    infill: tuple[int, ...] = ()  # prefix, suffix, middle: the markers of fill-in-the-middle; all or none
    between: tuple[int, ...] = ()  # before the second text of a pair: of RoBERTa and BART another [SEP]
    stops: tuple[int, ...] = ()  # pieces that end a sentence: '.', '!', '?', ...
    special_V: np.ndarray  # bool
    continues_V: np.ndarray  # bool

    @property
    def marks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What stands before and behind a text that is read: [CLS], [SEP]; else bos and eos, if there are any."""
        if self.cls >= 0 and self.sep >= 0:
            return (self.cls,), (self.sep,)
        return tuple(id for id in (self.bos,) if id >= 0), tuple(id for id in (self.eos,) if id >= 0)

    def framed(self, *texts: np.ndarray) -> np.ndarray:
        """Ids of texts in one segment, each with what stands before and behind it; int32."""
        begin, end = self.marks
        parts = [
            part
            for number, text in enumerate(texts)
            for part in (self.between if number else begin, text, end)
        ]
        return np.concatenate(parts).astype(np.int32)

    def overhead(self, segments: int, texts: int) -> int:
        """Special tokens of so many texts in so many segments, each of which holds one or a pair."""
        begin, end = self.marks
        return len(begin) * segments + len(end) * texts + len(self.between) * (texts - segments)

    def require_end(self, who: str) -> None:
        """UserError where nothing ends a text: [SEP], else eos."""
        if not self.marks[1]:
            self.require(who, "cls", "sep")

    def require(self, who: str, *roles: str) -> None:
        """UserError unless the tokenizer has every role ('mask', 'eos', 'sentinels', ...) that `who` needs."""
        missing = [role for role in roles if getattr(self, role) in (-1, ())]
        if missing:
            raise UserError(
                f"{who} needs the special tokens {', '.join(roles)}; this tokenizer has no {', no '.join(missing)}. "
                "Add them to the tokenizer's vocabulary, or train a tokenizer that has them (docs/data.md lists which "
                "kind has which)."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of token ids on the host, before an objective touches it; all int32.

    Items stand one after another from position 0, each `[CLS] ... [SEP]` or `[CLS] a [SEP] b [SEP]`; what is left is
    padding (token `pad`, segment 0).
    """

    tokens_T: np.ndarray
    segments_T: np.ndarray  # 1, 2, ... for the items in order; 0 is padding
    positions_T: np.ndarray  # restart at 0 for every item
    texts_T: np.ndarray  # number of the text within its item: 1 in the second sentence of a pair
    first_C: np.ndarray  # position of every item's [CLS]; 0 in unused slots
    # What is known of items, [C] or [C, K], and tokens, [T], by name: columns of the corpus, and what their kind says.
    # NONE in unused slots and at special tokens.
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def of_items(self, column: str) -> np.ndarray:
        """[C], of a column of several labels [C, K]: the values of a column that its items carry."""
        return self._column(column, len(self.first_C))

    def of_tokens(self, column: str) -> np.ndarray:
        """int32 [T]: the values of a column of spans that its items carry."""
        return self._column(column, len(self.tokens_T))

    def _column(self, name: str, size: int) -> np.ndarray:
        if not self.segments_T.any():  # a row of padding
            return np.full(size, NONE, np.int32)
        if name not in self.columns or len(self.columns[name]) != size:
            raise UserError(
                f'column "{name}": these rows carry {", ".join(self.columns) or "none"}, and what is asked for is '
                f"{size} values a row. Fix: `items` that carry it; spans are asked of tokens, all else of items."
            )
        return self.columns[name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """The targets of one row, for people."""

    wanted: dict[int, int] = dataclasses.field(
        default_factory=dict
    )  # place in the row -> id to predict there
    in_place: bool = False  # every position may have a target: they are shown as a line of their own
    notes: dict[int, str] = dataclasses.field(default_factory=dict)  # item -> what is asked of it


class Targets(Protocol):
    """What an objective asks about a batch: a pytree of its own, whose leaves have B in front."""

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """What a model sees, int32; and `targets`, which no model reads. A field that nobody uses is None.

    `tokens_BT` is the row in which predictions are made: an encoder's input, or a decoder's. An encoder-decoder has its
    encoder's row in the `source` fields, and attends from a segment to the source segment of the same number.
    """

    tokens_BT: Array  # input ids, masks applied
    segments_BT: Array  # item number within the row from 1; 0 is padding. Attention stays within a segment
    positions_BT: Array  # position within the item
    types_BT: Array | None = None  # token type (sentence A 0, B 1); None: the model has no types
    prefix_BT: Array | None = None  # 1 where a causal model lets the whole item see this token (prefix LM)
    source_tokens_BS: Array | None = None
    source_segments_BS: Array | None = None
    source_positions_BS: Array | None = None
    targets: Any = None  # of the objective, see `Targets`; None: nothing is asked
    digests_B: Array | None = None  # of the rows read, on the host only (data.attest); no step takes them
    # No row has more segments, each of them one run, with padding only behind them. None: not known
    most_segments: int | None = dataclasses.field(default=None, metadata={"static": True})

    @classmethod
    def full(cls, tokens_BT: np.ndarray, source_BS: np.ndarray | None = None) -> "Batch":
        """Of rows without padding, a text each; `source_BS` is what an encoder beside a decoder reads."""
        places = lambda like: np.tile(np.arange(like.shape[1], dtype=np.int32), (len(like), 1))
        beside: dict[str, Any] = {}
        if source_BS is not None:
            beside = {"source_tokens_BS": source_BS, "source_segments_BS": np.ones_like(source_BS)}
            beside |= {"source_positions_BS": places(source_BS)}
        return cls(
            tokens_BT=tokens_BT,
            segments_BT=np.ones_like(tokens_BT),
            positions_BT=places(tokens_BT),
            types_BT=np.zeros_like(tokens_BT),
            **beside,
        )


Batches = Mapping[str, Batch]  # by task: what a step takes


def stacked(rows: Sequence[Batch]) -> Batch:
    """A batch of numpy arrays out of rows without B."""
    return jax.tree.map(lambda *values: np.stack(values), *rows)


# (sum, weight): divided only at the very end, so that accumulation, packing, padding and any mesh agree.
Pair = tuple[Array, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
    """What is minimised is the sum over `terms` of sum/weight; `measures` are only reported."""

    terms: dict[str, Pair]
    measures: dict[str, Pair]
