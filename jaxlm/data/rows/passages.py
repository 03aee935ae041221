"""Passages as items: bare pieces of documents. In: shards. Out: Items that may be cut anywhere, no special tokens.

The label of a piece is the id that follows it: the document's next token, or eos where the document ends. The objective
adds its special tokens itself and says how many a piece costs (`overhead`), so that the plan leaves room for them.
"""

from collections.abc import Sequence

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.data.rows.carried import Carried
from jaxlm.data.rows.items import Piece, Place, Shards, digest, read


class Passages:
    """One item per document of one split; token type 0."""

    splittable = True

    def __init__(
        self, shards: Shards, vocabulary: Vocabulary, overhead: int, columns: tuple[str, ...] = ()
    ) -> None:
        self.shards, self.carried = shards, Carried(shards, columns)
        self.overhead = overhead
        self.eos = vocabulary.eos
        self._fingerprint = ""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per document."""
        return self.shards.lengths

    @property
    def fingerprint(self) -> str:
        """Of the lengths too: two splits of one corpus must not share a packing plan."""
        if not self._fingerprint:
            plain = digest("passages", self.shards.fingerprint, self.lengths)
            self._fingerprint = self.carried.fingerprint(plain)
        return self._fingerprint

    def pieces(self, places: Sequence[Place]) -> list[Piece]:
        """Tokens [start, start + length) of document k and the id after them, for every (k, start, length)."""
        documents = read(self.shards, (k for k, _, _ in places))
        return [self._piece(documents[k], k, start, start + length) for k, start, length in places]

    def _piece(self, document: np.ndarray, k: int, start: int, end: int) -> Piece:
        following = self.eos if end == len(document) else int(document[end])
        tokens = np.asarray(document[start:end], np.int32)
        columns = self.carried.by(k, [(start, end)], around=0)
        return Piece(tokens, np.zeros(len(tokens), np.int32), following, columns)
