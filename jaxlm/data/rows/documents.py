"""Documents as items: `[CLS] tokens [SEP]`. In: shards. Out: Items that may be cut anywhere between tokens.

A document longer than a row becomes several pieces, each with its own [CLS] and [SEP].
"""

from collections.abc import Sequence

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.data.rows.carried import Carried
from jaxlm.data.rows.items import NO_LABEL, Piece, Place, Shards, digest, read


class Documents:
    """One item per document of one split; token type 0."""

    overhead = 2
    splittable = True

    def __init__(self, shards: Shards, vocabulary: Vocabulary, columns: tuple[str, ...] = ()) -> None:
        self.shards, self.carried = shards, Carried(shards, columns)
        self.cls, self.sep = vocabulary.cls, vocabulary.sep
        self._fingerprint = ""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per document. Not kept here: a memory map travels to a reader process as a copy of the array."""
        return self.shards.lengths

    @property
    def fingerprint(self) -> str:
        """Of the lengths too: two splits of one corpus must not share a packing plan."""
        if not self._fingerprint:
            plain = digest("documents", self.shards.fingerprint, self.lengths)
            self._fingerprint = self.carried.fingerprint(plain)
        return self._fingerprint

    def pieces(self, places: Sequence[Place]) -> list[Piece]:
        """[CLS], tokens [start, start + length) of document k, [SEP]; for every (k, start, length)."""
        documents = read(self.shards, (k for k, _, _ in places))
        return [self._piece(documents[k], k, start, length) for k, start, length in places]

    def _piece(self, document: np.ndarray, k: int, start: int, length: int) -> Piece:
        tokens = np.empty(length + 2, np.int32)
        tokens[0], tokens[-1] = self.cls, self.sep
        tokens[1:-1] = document[start : start + length]
        columns = self.carried.by(k, [(start, start + length)], around=1)
        return Piece(tokens, np.zeros(length + 2, np.int32), NO_LABEL, columns)
