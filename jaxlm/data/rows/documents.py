"""Documents as items, which may be cut anywhere between tokens. In: shards. Out: `Documents`, `Passages`.

A document longer than a row becomes several pieces: with [CLS] and [SEP] each, or bare for objectives that add their
special tokens themselves.
"""

from collections.abc import Sequence

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.data.rows.carried import Carried
from jaxlm.data.rows.items import Piece, Place, Shards, digest, read

FOLLOWING = "following token"  # the column of passages


class _OfDocuments:
    """One item per document of one split; token type 0."""

    splittable = True
    name = ""  # of the kind, for the fingerprint

    def __init__(self, shards: Shards, columns: tuple[str, ...]) -> None:
        self.shards, self.carried = shards, Carried(shards, columns)
        self._fingerprint = ""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per document. Not kept here: a memory map travels to a reader process as a copy of the array."""
        return self.shards.lengths

    @property
    def fingerprint(self) -> str:
        """Of the lengths too: two splits of one corpus must not share a packing plan."""
        if not self._fingerprint:
            plain = digest(self.name, self.shards.fingerprint, self.lengths)
            self._fingerprint = self.carried.fingerprint(plain)
        return self._fingerprint

    def documents(self, place: Place) -> list[Place]:
        """An item is its document."""
        return [place]

    def pieces(self, places: Sequence[Place]) -> list[Piece]:
        """Tokens [start, start + length) of document k, laid out, for every (k, start, length)."""
        documents = read(self.shards, (k for k, _, _ in places))
        return [self._piece(documents[k], k, start, start + length) for k, start, length in places]

    def _piece(self, document: np.ndarray, k: int, start: int, end: int) -> Piece:
        raise NotImplementedError


class Documents(_OfDocuments):
    """Pieces as `[CLS] tokens [SEP]`."""

    name = "documents"
    overhead = 2

    def __init__(self, shards: Shards, vocabulary: Vocabulary, columns: tuple[str, ...] = ()) -> None:
        super().__init__(shards, columns)
        self.cls, self.sep = vocabulary.cls, vocabulary.sep

    def _piece(self, document: np.ndarray, k: int, start: int, end: int) -> Piece:
        tokens = np.empty(end - start + 2, np.int32)
        tokens[0], tokens[-1] = self.cls, self.sep
        tokens[1:-1] = document[start:end]
        return Piece(tokens, np.zeros_like(tokens), self.carried.by(k, [(start, end)], around=(1, 1)))


class Passages(_OfDocuments):
    """Bare pieces with a column `FOLLOWING`: the document's next token, or eos at its end.

    `overhead`: special tokens that an objective adds to a piece itself, so that the plan leaves room for them.
    """

    name = "passages"

    def __init__(
        self, shards: Shards, vocabulary: Vocabulary, overhead: int, columns: tuple[str, ...] = ()
    ) -> None:
        super().__init__(shards, columns)
        self.overhead, self.eos = overhead, vocabulary.eos

    def _piece(self, document: np.ndarray, k: int, start: int, end: int) -> Piece:
        following = np.array(self.eos if end == len(document) else document[end], np.int32)
        tokens = np.asarray(document[start:end], np.int32)
        columns = {**self.carried.by(k, [(start, end)], around=(0, 0)), FOLLOWING: following}
        return Piece(tokens, np.zeros_like(tokens), columns)
