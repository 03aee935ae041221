"""Pairs of texts as items for an encoder-decoder. In: shards of records of two fields. Out: Items, source then target.

A row of a plan has room for both sides: an item costs twice the longer of them (and an eos each), so that the sources
of a row of 2 x L tokens fit L, and its targets too. Pairs with a side that does not fit L, or without tokens, are left
out. Texts: source 0, target 1; no special tokens, the objective adds its own.
"""

from collections.abc import Iterator

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows.items import CHUNK, Piece, Shards, digest
from jaxlm.data.rows.texts import Texts, spans_of, starts
from jaxlm.errors import UserError

# Part of every fingerprint: raise it when the same input makes other items.
VERSION = 1
_KIND = np.dtype([("document", np.uint32), ("start", np.uint32, (2,)), ("length", np.uint32, (2,))])


class Translations(Texts):
    """Rows of the table: document, and first token and number of tokens of source and target."""

    @property
    def overhead(self) -> int:
        """An eos for the longer side, twice."""
        return 2

    def tokens(self, block: np.ndarray) -> np.ndarray:
        """What an item costs: twice its longer side."""
        return 2 * block["length"].max(axis=1)

    def _piece(self, document: np.ndarray, row: np.void) -> Piece:
        spans = spans_of(row)
        source, target = (document[start:end] for start, end in spans)
        sides = np.repeat(np.arange(2, dtype=np.int32), [len(source), len(target)])
        columns = self.carried.by(int(row["document"]), spans, around=(0, 0))
        return Piece(np.concatenate([source, target]).astype(np.int32), sides, columns)


def make_translations(
    shards: Shards,
    vocabulary: Vocabulary,
    *,
    max_tokens: int,
    cache: Cache | None,
    columns: tuple[str, ...] = (),
) -> Translations:
    """The pairs whose sides have at most `max_tokens` tokens, made now or found under `cache`.

    UserError when there are none, or when a record does not have two fields.
    """

    def blocks() -> Iterator[np.ndarray]:
        table = _table(shards)
        fits = table["length"].max(axis=1) <= max_tokens
        if not fits.any():
            raise UserError(
                f"no pair of the split fits: {len(table)} pairs, and the shortest has a side of "
                f"{int(table['length'].max(axis=1).min())} tokens, {max_tokens} fit. Use longer rows."
            )
        table = table[fits]
        for at in range(0, len(table), CHUNK):
            yield table[at : at + CHUNK]

    fingerprint = digest("translations", VERSION, shards.fingerprint, max_tokens)
    return Translations.find_or_make(shards, vocabulary, fingerprint, cache, blocks, columns)


def _table(shards: Shards) -> np.ndarray:
    length = shards.array("fields")
    if length.shape[1] != 2:
        raise UserError(
            f"records of {length.shape[1]} texts: translation needs two, source and target. Fix: a .tsv of `source TAB "
            "target`, or JSONL or Parquet with two fields: --config.data.text_fields=\"('source', 'target')\"."
        )
    table = np.empty(len(length), _KIND)
    table["document"], table["start"], table["length"] = np.arange(len(length)), starts(length), length
    return table
