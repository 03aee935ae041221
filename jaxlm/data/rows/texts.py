"""Whole texts as items: `[CLS] a [SEP] [CLS] b [SEP]`, or joined, `[CLS] a [SEP] b [SEP]`. In: shards. Out: Items.

Of a tokenizer without [CLS] and [SEP], bos and eos stand in their places (`Vocabulary.marks`); of some another [SEP]
stands before b (`Vocabulary.between`).

An item is one text (a document, or a sentence of one) or the texts that belong together (the fields of a record); each
is cut to `max_tokens`, those that are joined together.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows.items import CHUNK, Piece, Place, Shards, digest, read
from jaxlm.data.rows.sentence_lengths import read_sentences
from jaxlm.data.rows.table_items import TableItems
from jaxlm.errors import UserError

# Part of every fingerprint: raise it when the same input makes other items.
VERSION = 1
# What one text is: a whole document, every sentence, or every field of a record (data.text_fields).
# "choices": the first field with each of the others.
Unit = Literal["documents", "sentences", "fields", "choices"]


class Texts(TableItems):
    """Rows of the table: document, and first token and number of tokens of every text."""

    @property
    def overhead(self) -> int:
        """[CLS] and [SEP] of every text."""
        texts = self.table["length"].shape[1]
        return self.vocabulary.overhead(texts, texts)

    def tokens(self, block: np.ndarray) -> np.ndarray:
        """Tokens of all texts of an item."""
        return block["length"].sum(axis=1, dtype=np.uint32)

    def documents(self, place: Place) -> list[Place]:
        """The texts of an item, all of one document."""
        row = self.table[place[0]]
        return [(int(row["document"]), start, end - start) for start, end in spans_of(row)]

    def pieces(self, places: Sequence[Place]) -> list[Piece]:
        """[CLS] text [SEP] for every text of the item; a place is always a whole item."""
        wanted = [self.table[k] for k, _, _ in places]
        documents = read(self.shards, (int(row["document"]) for row in wanted))
        return [self._piece(documents[int(row["document"])], row) for row in wanted]

    @property
    def _around(self) -> tuple[int, int]:
        begin, end = self.vocabulary.marks
        return len(begin), len(end)

    def _piece(self, document: np.ndarray, row: np.void) -> Piece:
        spans, (begin, end) = spans_of(row), self.vocabulary.marks
        texts = [(begin, document[first:last], end) for first, last in spans]
        sizes = [len(begin) + len(text) + len(end) for _, text, _ in texts]
        tokens = np.concatenate([part for text in texts for part in text]).astype(np.int32)
        columns = self.carried.by(int(row["document"]), spans, self._around)
        return Piece(tokens, np.repeat(np.arange(len(sizes), dtype=np.int32), sizes), columns)


class Bare(Texts):
    """Texts without special tokens of their own: the objective, or a template, has put or puts them."""

    @property
    def overhead(self) -> int:
        """Nothing."""
        return 0

    def _piece(self, document: np.ndarray, row: np.void) -> Piece:
        spans = spans_of(row)
        tokens = np.concatenate([document[start:end] for start, end in spans]).astype(np.int32)
        numbers = np.repeat(np.arange(len(spans), dtype=np.int32), row["length"])
        return Piece(tokens, numbers, self.carried.by(int(row["document"]), spans, around=(0, 0)))


class Joined(Texts):
    """A text, or pairs of texts: each pair is one segment, what is asked is asked of its two texts together."""

    @property
    def overhead(self) -> int:
        """Of a pair in one segment."""
        texts = self.table["length"].shape[1]
        return self.vocabulary.overhead(-(-texts // 2), texts)

    def _piece(self, document: np.ndarray, row: np.void) -> Piece:
        piece = super()._piece(document, row)
        if not self._around[0]:
            return piece
        whole = len(piece.tokens)
        begins = np.flatnonzero(np.diff(piece.texts, prepend=-1))
        later = begins[1::2]
        if self.vocabulary.between:
            piece.tokens[later] = self.vocabulary.between
            return piece
        columns = {n: np.delete(v, later) if v.shape == (whole,) else v for n, v in piece.columns.items()}
        return Piece(np.delete(piece.tokens, later), np.delete(piece.texts, later), columns)


def longest_first(length: np.ndarray, most: int) -> np.ndarray:
    """Lengths [items, 1 or 2] cut so that those of an item add up to `most` at most, the longer of two first: as the
    `tokenizers` library's LongestFirst does."""
    if length.shape[1] == 1:
        return np.minimum(length, most)
    cut = np.sort(length.astype(np.int64), axis=1)
    short, long = cut[:, 0], cut[:, 1]
    long = np.where(short > most, short, np.minimum(long, np.maximum(short, most - short)))
    halved = short + long > most
    short, long = np.where(halved, most // 2, short), np.where(halved, most - most // 2, long)
    first_is_longer = length[:, 0] > length[:, 1]
    return np.stack([np.where(first_is_longer, long, short), np.where(first_is_longer, short, long)], axis=1)


def spans_of(row: np.void) -> list[tuple[int, int]]:
    """First token and end of every text of an item."""
    return [(a, a + n) for a, n in zip(row["start"].tolist(), row["length"].tolist(), strict=True)]


def make_texts(
    shards: Shards,
    vocabulary: Vocabulary,
    *,
    unit: Unit,
    texts: int,
    max_tokens: int,
    cache: Cache | None,
    columns: tuple[str, ...] = (),
    joined: bool = False,
) -> Texts:
    """The items of a split, made now or found under `cache`; `texts` of each item, 1 unless they are fields.
    Every item carries the `columns` of its record.

    UserError when there are none, or when a record does not have that many fields.
    """
    kind = Joined if joined else Texts
    between = vocabulary.between if joined else ()
    fingerprint = digest(
        kind.__name__.lower(), VERSION, shards.fingerprint, unit, texts, max_tokens, *between
    )
    make = _UNITS[unit]

    def blocks() -> Iterator[np.ndarray]:
        document, start, length = make(shards, texts)
        kept = np.flatnonzero((length > 0).all(axis=1))
        if not len(kept):
            raise UserError(
                "there are no texts: the split has no tokens. Check the corpus and the split shares."
            )
        dtype = [("document", np.uint32), ("start", np.uint32, (texts,)), ("length", np.uint16, (texts,))]
        shortened = 0
        for at in range(0, len(kept), CHUNK):
            rows = kept[at : at + CHUNK]
            table = np.empty(len(rows), np.dtype(dtype))
            table["document"], table["start"] = document[rows], start[rows]
            together = min(texts, 2) if joined else 1
            cut = longest_first(length[rows].reshape(-1, together), max_tokens)
            table["length"] = cut.reshape(-1, texts)
            shortened += int((table["length"] < length[rows]).any(axis=1).sum())
            yield table
        if cache is not None and shortened:
            cache.say(
                f"  texts              {len(kept):,} items; the end of {shortened:,} is cut off "
                f"(max_tokens={max_tokens})"
            )

    return kind.find_or_make(shards, vocabulary, fingerprint, cache, blocks, columns)


Columns = tuple[np.ndarray, np.ndarray, np.ndarray]  # document [items], start and length [items, texts]


def _documents(shards: Shards, texts: int) -> Columns:
    lengths = np.asarray(shards.lengths)[:, None]
    return np.arange(len(lengths)), np.zeros_like(lengths), lengths


def _sentences(shards: Shards, texts: int) -> Columns:
    sentences = read_sentences(shards)
    counts = np.diff(sentences.offsets)
    starts = sentences.ends[:-1] - np.repeat(sentences.ends[sentences.offsets[:-1]], counts)
    return np.repeat(sentences.document, counts), starts[:, None], sentences.lengths[:, None]


def _fields(shards: Shards, texts: int) -> Columns:
    length = shards.array("fields")
    if length.shape[1] != texts:
        raise UserError(
            f"records of {length.shape[1]} texts where the objective needs {texts} "
            f"({', '.join(('anchor', 'positive', 'hard negative')[:texts])}): this is no corpus of text pairs. Fix: "
            f"name {texts} fields of a record, --config.data.text_fields=\"('anchor', 'positive')\" (docs/data.md)."
        )
    return np.arange(len(length)), starts(length), length


def _choices(shards: Shards, texts: int) -> Columns:
    document, start, length = _fields(shards, texts // 2 + 1)
    beside = lambda of: np.stack([np.repeat(of[:, :1], texts // 2, axis=1), of[:, 1:]], axis=2)
    return document, beside(start).reshape(-1, texts), beside(length).reshape(-1, texts)


_UNITS = {"documents": _documents, "sentences": _sentences, "fields": _fields, "choices": _choices}


def starts(length: np.ndarray) -> np.ndarray:
    """First token of every text of a record, from their lengths [records, texts]."""
    return np.cumsum(length, axis=1, dtype=np.uint32) - length
