"""What can be placed in a row. In: shards. Out: `Items`: lengths for the packing plan, pieces for the rows.

An item is a document or a sentence pair; a piece is the part of it that stands in one row, special tokens included.
Items are random access and picklable: reader processes get their own copy.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from jaxlm.cached import Cache

Place = tuple[int, int, int]  # item, first token, number of tokens without special ones


@dataclasses.dataclass(frozen=True)
class Piece:
    """Part of an item as it stands in a row."""

    tokens: np.ndarray  # int32, with special tokens
    texts: np.ndarray  # int32, as long as tokens: number of the text within the item
    # Of the item, [], or of its tokens, by name: columns of the corpus (see `carried`), and what its kind knows.
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What an objective may need to know of the rows when it makes their items."""

    length: int  # tokens of the plan's rows
    seed: int  # of items that are drawn
    cache: Cache | None  # of items that are made once; None: they stay in memory
    train: bool  # the training split


class Items(Protocol):
    """A random-access table of items."""

    splittable: bool  # whether an item may be cut into several pieces

    @property
    def overhead(self) -> int:
        """Special tokens that a piece costs."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per item without special tokens; unsigned, maybe memory-mapped."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of everything that decides what the items are."""
        ...

    def documents(self, place: Place) -> list[Place]:
        """What of which documents stands in a piece, in order; without special tokens."""
        ...

    def pieces(self, places: Sequence[Place]) -> list[Piece]:
        """Tokens [start, start + length) of item k, with special tokens, for every (k, start, length), in order."""
        ...


class Shards(Protocol):
    """The part of data.shards.Shards that items read: one split, tokenised, random access."""

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitems__(self, ks: Sequence[int]) -> list[np.ndarray]: ...

    def sentence_lengths(self, k: int) -> np.ndarray: ...

    def array(self, name: str) -> np.ndarray: ...

    def value(self, name: str, k: int) -> np.ndarray: ...

    def labels(self, name: str) -> tuple[str, ...]: ...


def read(shards: Shards, documents: Iterable[int]) -> dict[int, np.ndarray]:
    """Tokens by document, each read once.

    All in one call: measured on array_record, 12 us of CPU per document, against 121 us one by one.
    """
    wanted = list(dict.fromkeys(documents))
    return dict(zip(wanted, shards.__getitems__(wanted), strict=True))


def digest(*parts: object) -> str:
    """Hex SHA-256 of the parts; arrays count by dtype, shape and content, anything else by its repr."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(repr((part.dtype.str, part.shape)).encode())
            for at in range(0, len(part), CHUNK):
                state.update(np.ascontiguousarray(part[at : at + CHUNK]).data)
        else:
            state.update(repr(part).encode())
        state.update(b"\0")
    return state.hexdigest()


CHUNK = 1 << 22  # elements handled at once: large arrays are memory-mapped and must not be copied whole
