"""Conversations as items: one text, or two answers to one prompt, whole. In: shards with their column. Out: `Items`.

A row of `length` tokens has `slots` targets. So that a plan, which packs by tokens alone, keeps both, an item takes as
much room as it needs of either: targets * length / slots where that is more than its tokens. What a row cannot hold is
said: a conversation is cut at its end, one without an answer in what is left is left out, and so is a pair of answers
that does not fit whole.
"""

from collections.abc import Iterator

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows.items import Shards, digest
from jaxlm.data.rows.texts import Bare, starts
from jaxlm.errors import UserError

# Part of every fingerprint: raise it when the same input makes other items.
VERSION = 1
_DOCUMENTS = 1 << 14  # handled at once: a value a token of each is in memory


class Conversations(Bare):
    """Rows of the table: document, first token and number of tokens of every text, and the room that it takes."""

    def tokens(self, block: np.ndarray) -> np.ndarray:
        """The room of an item: its tokens, or more."""
        return block["room"]


def make_conversations(
    shards: Shards,
    vocabulary: Vocabulary,
    *,
    column: str,
    texts: int,
    length: int,
    slots: int,
    cache: Cache | None,
) -> Conversations:
    """The items of a split for rows of `length` tokens and `slots` targets, made now or found under `cache`.

    `texts` of each item: 1, or 2 that are compared. UserError when none fits.
    """
    fingerprint = digest("conversations", VERSION, shards.fingerprint, column, texts, length, slots)

    def blocks() -> Iterator[np.ndarray]:
        kept = cut = left = 0
        for document, sizes, before in _read(shards, column, texts):
            used = sizes if texts > 1 else np.minimum(np.minimum(sizes, length), before.longest(slots))
            targets = before.within(used)
            room = np.maximum(used.sum(axis=1), -(-targets.sum(axis=1) * length // slots))
            rows = np.flatnonzero((room <= length) & (targets > 0).all(axis=1))
            kept, left = kept + len(rows), left + len(used) - len(rows)
            cut += int((used < sizes)[rows].sum())
            table = np.empty(len(rows), np.dtype(_kind(texts)))
            table["document"], table["start"] = document[rows], starts(sizes)[rows]
            table["length"], table["room"] = used[rows], room[rows]
            yield table
        _say(cache, kept, cut, left, f"rows of {length} tokens and {slots} targets", texts)

    return Conversations.find_or_make(shards, vocabulary, fingerprint, cache, blocks, (column,))


def most_targets(shards: Shards, column: str, texts: int, length: int) -> tuple[int, float]:
    """(the most targets of an item of at most `length` tokens, targets per token of all of them)."""
    most = total = tokens = 0
    for _, sizes, before in _read(shards, column, texts):
        kept = sizes if texts > 1 else np.minimum(sizes, length)
        targets = before.within(kept).sum(axis=1)
        fits = kept.sum(axis=1) <= length
        most = max(most, int(targets[fits].max(initial=0)))
        total, tokens = total + int(targets[fits].sum()), tokens + int(kept[fits].sum())
    return most, total / max(tokens, 1)


def _kind(texts: int) -> list[tuple]:
    length = ("length", np.uint32, (texts,))
    return [("document", np.uint32), ("start", np.uint32, (texts,)), length, ("room", np.uint32)]


class _Before:
    """Of some documents: how many targets stand before a token of each of their texts."""

    def __init__(self, marks: np.ndarray, begin: np.ndarray):
        """marks: bool, of the tokens of all of them; begin: [items, texts] the first token of every text there."""
        wanted = marks.copy()
        wanted[begin] = False  # nothing stands before it that could predict it
        self.count, self.begin = np.concatenate([[0], np.cumsum(wanted)]), begin

    def within(self, sizes: np.ndarray) -> np.ndarray:
        """[items, texts]: targets among the first `sizes` tokens of every text."""
        return self.count[self.begin + sizes] - self.count[self.begin]

    def longest(self, slots: int) -> np.ndarray:
        """[items, texts]: the most tokens with at most so many targets."""
        return np.searchsorted(self.count, self.count[self.begin] + slots, side="right") - 1 - self.begin


def _read(shards: Shards, column: str, texts: int) -> Iterator[tuple[np.ndarray, np.ndarray, _Before]]:
    """(numbers of documents, tokens of every text, targets before a token) of a split, in blocks."""
    values, sizes = shards.array(column), np.asarray(shards.lengths)[:, None]
    sizes = (shards.array("fields") if texts > 1 else sizes).astype(np.int64)
    if sizes.shape[1] != texts:
        raise UserError(
            f"records of {sizes.shape[1]} texts, and {texts} are compared. Fix: \"--config.data.text_fields=('chosen', "
            "'rejected')\"."
        )
    begin = 0
    for low in range(0, len(sizes), _DOCUMENTS):
        block = sizes[low : low + _DOCUMENTS]
        first = np.cumsum(block.reshape(-1)) - block.reshape(-1)
        end = begin + int(block.sum())
        marks = np.asarray(values[begin:end]) > 0
        yield np.arange(low, low + len(block)), block, _Before(marks, first.reshape(block.shape))
        begin = end


def _say(cache: Cache | None, kept: int, cut: int, left: int, rows: str, texts: int) -> None:
    what = "conversations" if texts == 1 else "pairs"
    if not kept:
        raise UserError(
            f"{rows} hold none of the {left} {what} with an answer. Fix: longer rows, "
            f"--config.stages[0].length, or more --config.objective.targets (0: as many as the data ask for)."
        )
    if cache is not None and (cut or left):
        cache.say(
            f"{rows}: of {kept + left:,} {what} {cut:,} are cut at the end, and {left:,} are left out, "
            + ("of which no answer would be left" if texts == 1 else "which do not fit whole")
        )
