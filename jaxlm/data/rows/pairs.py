"""Segment pairs as items: `[CLS] a [SEP] b [SEP]`. In: shards with sentence lengths. Out: Items that stay whole.

The pairs of a split are a table made ahead of time from sentence lengths alone (see pair_table.py), kept on disk and
memory-mapped; the tokens are read when a row is built.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows import pair_table
from jaxlm.data.rows.items import Piece, Place, Shards, digest, read
from jaxlm.data.rows.sentence_lengths import read_sentences
from jaxlm.data.rows.table_items import TableItems
from jaxlm.errors import UserError

# Part of every fingerprint: raise it when the same input makes other pairs.
VERSION = 2
NEGATIVE = "negative pair"  # the column of pairs


class Pairs(TableItems):
    """One item per pair; `NEGATIVE` is 0 where b follows a, else 1 (see pair_table.Settings.negatives)."""

    overhead = 3

    def tokens(self, block: np.ndarray) -> np.ndarray:
        """Tokens of both segments."""
        return block["length_a"].astype(np.uint32) + block["length_b"]

    def documents(self, place: Place) -> list[Place]:
        """Where a and b are from."""
        a, start_a, b, start_b, length_a, length_b, _ = self.table[place[0]].item()
        return [(a, start_a, length_a), (b, start_b, length_b)]

    def pieces(self, places: Sequence[Place]) -> list[Piece]:
        """[CLS] a [SEP] b [SEP], text 0 up to the first [SEP] and 1 after it; a place is always a whole pair."""
        wanted = [self.table[k].item() for k, _, _ in places]
        documents = read(self.shards, (document for pair in wanted for document in (pair[0], pair[2])))
        for (k, start, length), (*_, length_a, length_b, _) in zip(places, wanted, strict=True):
            if start or length != length_a + length_b:
                raise AssertionError(
                    f"pair {k} of {length_a} + {length_b} tokens cut to [{start}, {start + length})"
                )
        return [
            self._piece(
                documents[a][start_a : start_a + length_a], documents[b][start_b : start_b + length_b], label
            )
            for a, start_a, b, start_b, length_a, length_b, label in wanted
        ]

    def _piece(self, a: np.ndarray, b: np.ndarray, label: int) -> Piece:
        size = len(a) + len(b) + 3
        tokens, texts = np.empty(size, np.int32), np.zeros(size, np.int32)
        tokens[0], tokens[len(a) + 1], tokens[-1] = self.cls, self.sep, self.sep
        tokens[1 : len(a) + 1], tokens[len(a) + 2 : -1] = a, b
        texts[len(a) + 2 :] = 1
        return Piece(tokens, texts, {NEGATIVE: np.array(label, np.int32)})


def make_pairs(
    shards: Shards,
    vocabulary: Vocabulary,
    *,
    row_length: int,
    short_share: float,
    negatives: pair_table.Negatives,
    negative_share: float,
    duplicates: int,
    seed: int,
    cache: Cache | None,
) -> Pairs:
    """The pairs of a split, made now or found under `cache`; with None they stay in memory.

    Every document is gone through `duplicates` times with other draws. UserError if the shards have no sentences or
    no pair can be made of them.
    """
    settings = pair_table.Settings(
        max_tokens=row_length - Pairs.overhead,
        short_share=short_share,
        negatives=negatives,
        negative_share=negative_share,
        duplicates=duplicates,
        seed=seed,
    )
    # The fingerprint of shards covers their sentence lengths: a table that was made is found without reading any.
    fingerprint = digest("pairs", VERSION, shards.fingerprint, settings)
    return Pairs.find_or_make(shards, vocabulary, fingerprint, cache, lambda: _blocks(shards, settings))


def _blocks(shards: Shards, settings: pair_table.Settings) -> Iterator[np.ndarray]:
    """The blocks of the table; at least one pair."""
    none = True
    for block in pair_table.blocks(read_sentences(shards), settings):
        none = none and not len(block)
        yield block
    if none:
        raise UserError(
            "no sentence pair can be made: the split has no sentences, or no document with two where their order is "
            "asked. Use a larger corpus, or one of longer documents."
        )
