"""Pairs of texts as items for an encoder-decoder. In: shards of records of two fields. Out: Items, source then target.

A row of a plan has room for both sides: an item costs twice the longer of them (and an eos each), so that the sources
of a row of 2 x L tokens fit L, and its targets too, or L / R where R times as long a source as target is foreseen. A
source that does not fit L is cut at its end, or the pair left out; one whose target does not fit, or without tokens, is
left out. How many is said. Texts: source 0, target 1; no special tokens, the objective adds its own.
"""

from collections.abc import Iterator

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows.items import CHUNK, Shards, digest
from jaxlm.data.rows.texts import Bare, starts
from jaxlm.errors import UserError

# Part of every fingerprint: raise it when the same input makes other items.
VERSION = 2
_FIELDS = [("document", np.uint32), ("start", np.uint32, (2,)), ("length", np.uint32, (2,))]
_KIND = np.dtype([*_FIELDS, ("cost", np.uint32)])


class Translations(Bare):
    """Rows of the table: document, first token and number of tokens of source and target, and what the item costs."""

    @property
    def overhead(self) -> int:
        """An eos for the longer side, twice."""
        return 2

    def tokens(self, block: np.ndarray) -> np.ndarray:
        """What an item costs: twice its longer side, without the two eos."""
        return block["cost"]


def make_translations(
    shards: Shards,
    vocabulary: Vocabulary,
    *,
    max_tokens: int,
    cache: Cache | None,
    columns: tuple[str, ...] = (),
    cut: bool = False,
    ratio: int = 1,
    special: int = 1,
) -> Translations:
    """The pairs whose sources have at most `max_tokens` tokens, made now or found under `cache`.

    cut: longer sources lose their end. ratio: tokens of a source's row for one of a target's. special:
    tokens around a side. UserError when there are
    no pairs, or when a record does not have two fields.
    """

    def blocks() -> Iterator[np.ndarray]:
        table = _table(shards)
        most = np.array([max_tokens, (max_tokens + special) // ratio - special])
        long_N2 = table["length"] > most
        kept = ~(long_N2[:, 1] if cut else long_N2.any(axis=1)) & (table["length"] > 0).all(axis=1)
        if not kept.any():
            shortest = table["length"].max(axis=1).min()
            raise UserError(
                f"no pair of the split fits: {len(table)} pairs, and the shortest has a side of {shortest} tokens, "
                f"{most[0]} fit (of a target {most[1]}). Use longer rows."
            )
        if cache is not None and long_N2.any():
            number = int((long_N2[:, 0] & kept).sum())
            cache.say(
                f"  pairs              {len(table):,}; {(~kept).sum():,} left out, which do not fit; of {number:,} the "
                f"source is cut to {max_tokens:,} tokens"
            )
        table["length"][:, 0] = np.minimum(table["length"][:, 0], max_tokens)
        sides = table["length"].astype(np.int64) + special
        table["cost"] = 2 * (np.maximum(sides[:, 0], ratio * sides[:, 1]) - 1)
        table = table[kept]
        for at in range(0, len(table), CHUNK):
            yield table[at : at + CHUNK]

    fingerprint = digest("translations", VERSION, shards.fingerprint, max_tokens, cut, ratio, special)
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
