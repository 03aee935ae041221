"""Packing: which pieces of which items share a row. In: item lengths. Out: a `Plan`, cached on disk.

Planned ahead of time from lengths alone, so any row can be built by itself, in any order, on any host. Every token of
every item stands in exactly one row. Planning takes about 40 bytes of memory per piece (10^8 documents: 4.5 GiB, 63 s
on one core; tools/benchmark_packing.py), reading a plan next to none.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from jaxlm.cached import Cache
from jaxlm.data import draws
from jaxlm.data.rows import best_fit
from jaxlm.data.rows.items import CHUNK, Items, digest
from jaxlm.data.rows.plan import Plan, index_type, open_plan, write_plan
from jaxlm.errors import UserError

Method = Literal["none", "concatenate", "best_fit"]
MIN_ROW_LENGTH = 8
# Part of every fingerprint: raise it when the same input makes another plan, so that no stale plan is found.
VERSION = 1

Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]  # item, start, length


def plan(
    items: Items,
    *,
    row_length: int,
    method: Method,
    max_items: int,
    seed: int,
    cache: Cache | None,
) -> Plan:
    """Packs all items into rows of `row_length` tokens with at most `max_items` pieces each.

    `none`: one piece a row. `concatenate`: documents in random order one after another, cut where a row ends; hardly
    any padding. `best_fit`: items stay whole unless longer than a row. The plan is kept under `cache` and found again
    there; with None it stays in memory. UserError if the items do not suit the method.
    """
    key = (VERSION, items.fingerprint, items.overhead, items.splittable, row_length, method, max_items, seed)
    fingerprint = digest("plan", *key)

    def make() -> Plan:
        _check(items, row_length, method, max_items)
        rng = draws.generator(seed, "packing")
        pieces, row_offsets = _METHODS[method](items, row_length, max_items, rng)
        return _plan(pieces, row_offsets, items.overhead, row_length, fingerprint)

    if cache is None:
        return make()
    name = f"plans/plan-{fingerprint[:24]}"
    return open_plan(cache.find(name, fingerprint, lambda folder: write_plan(make(), folder)))


def _plan(pieces: Pieces, row_offsets: np.ndarray, overhead: int, row_length: int, fingerprint: str) -> Plan:
    item, start, length = pieces
    tokens = int(length.sum(dtype=np.int64)) + overhead * len(length)
    return Plan(
        row_offsets=row_offsets,
        item=item,
        start=start,
        length=length,
        row_length=row_length,
        max_items=int(np.diff(row_offsets).max()),
        efficiency=tokens / ((len(row_offsets) - 1) * row_length),
        fingerprint=fingerprint,
    )


def _one_each(
    items: Items, row_length: int, max_items: int, rng: np.random.Generator
) -> tuple[Pieces, np.ndarray]:
    pieces = split(items.lengths, row_length - items.overhead)
    order = rng.permutation(np.arange(len(pieces[0]), dtype=index_type(len(pieces[0]))))
    return _take(pieces, order), np.arange(len(order) + 1, dtype=order.dtype)


def _best_fit(
    items: Items, row_length: int, max_items: int, rng: np.random.Generator
) -> tuple[Pieces, np.ndarray]:
    pieces = split(items.lengths, row_length - items.overhead)
    sizes = pieces[2] + pieces[2].dtype.type(items.overhead)
    order, row_offsets = best_fit.assign(sizes, row_length, max_items, rng)
    return _take(pieces, order), row_offsets


def _concatenate(
    items: Items, row_length: int, max_items: int, rng: np.random.Generator
) -> tuple[Pieces, np.ndarray]:
    """Documents on a line, each taking its tokens and its overhead, cut at every `room` = row_length - overhead.

    The last piece of a row needs the overhead that its document has not yet paid for, which is what `room` leaves
    free: such a row is exactly full. At most `overhead` tokens are lost where a row ends between two documents.
    """
    count, room = len(items.lengths), row_length - items.overhead
    order = rng.permutation(np.arange(count, dtype=index_type(count)))
    total = _pieces_bound(items.lengths, room)
    columns = [
        np.empty(total, t) for t in (order.dtype, index_type(_longest(items)), _length_type(room), np.uint8)
    ]
    at, begin, previous = 0, 0, -1
    for block in range(0, count, CHUNK):
        item = order[block : block + CHUNK]
        lengths = items.lengths[item].astype(np.int64)
        item, lengths = item[lengths > 0], lengths[lengths > 0]
        ends = begin + np.cumsum(lengths + items.overhead)
        begins = ends - lengths - items.overhead
        first, last = begins // room, (begins + lengths - 1) // room
        which, nth = _repeat(last - first + 1)
        row = first[which] + nth
        low = np.maximum(begins[which], row * room)
        high = np.minimum((begins + lengths)[which], (row + 1) * room)
        new_row = np.diff(row, prepend=previous) > 0
        values = (item[which], low - begins[which], high - low, new_row)
        for column, value in zip(columns, values, strict=True):
            column[at : at + len(which)] = value
        at += len(which)
        begin, previous = (int(ends[-1]), int(row[-1])) if len(ends) else (begin, previous)
    item, start, length, new_row = (column[:at] for column in columns)
    return (item, start, length), _limit(np.flatnonzero(new_row), at, max_items)


def _limit(firsts: np.ndarray, pieces: int, max_items: int) -> np.ndarray:
    """Row offsets from the first piece of every row; rows with more than `max_items` pieces become several."""
    counts = np.diff(firsts, append=pieces)
    parts = -(-counts // max_items)
    if parts.max(initial=1) > 1:
        which, nth = _repeat(parts)
        firsts = firsts[which] + nth * max_items
    return np.append(firsts, pieces).astype(index_type(pieces))


def split(lengths: np.ndarray, capacity: int) -> Pieces:
    """Cuts items into pieces of at most `capacity` tokens, all but the last of each full; empty items have none."""
    total = sum(int((-(-block // capacity)).sum()) for block in _blocks(lengths))
    item = np.empty(total, index_type(len(lengths)))
    start = np.empty(total, index_type(int(lengths.max(initial=0))))
    length = np.empty(total, _length_type(capacity))
    at = begin = 0
    for block in _blocks(lengths):
        which, nth = _repeat(-(-block // capacity))
        span = slice(at, at + len(which))
        item[span], start[span] = which + begin, nth * capacity
        length[span] = np.minimum(block[which] - nth * capacity, capacity)
        at, begin = at + len(which), begin + len(block)
    return item, start, length


def _pieces_bound(lengths: np.ndarray, room: int) -> int:
    """At least as many pieces as concatenation can make: every document may be cut once more than it needs."""
    return sum(int((-(-block // room) + 1)[block > 0].sum()) for block in _blocks(lengths))


def _blocks(lengths: np.ndarray) -> Iterator[np.ndarray]:
    for at in range(0, len(lengths), CHUNK):
        yield np.asarray(lengths[at : at + CHUNK], np.int64)


def _repeat(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[2, 0, 3] -> ([0, 0, 2, 2, 2], [0, 1, 0, 1, 2]): whose copy each is, and which copy."""
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)


def _take(pieces: Pieces, order: np.ndarray) -> Pieces:
    item, start, length = pieces
    return item[order], start[order], length[order]


def _length_type(largest: int) -> type[np.unsignedinteger]:
    return np.uint16 if largest < 2**16 - 8 else np.uint32  # room for the special tokens


def _longest(items: Items) -> int:
    return int(items.lengths.max(initial=0))


def _check(items: Items, row_length: int, method: str, max_items: int) -> None:
    if method not in _METHODS:
        raise UserError(f"packing={method!r} is unknown; allowed: {', '.join(_METHODS)}.")
    if row_length < MIN_ROW_LENGTH:
        raise UserError(f"row length {row_length} is too short; allowed: at least {MIN_ROW_LENGTH} tokens.")
    if max_items < 1:
        raise UserError(f"max_items={max_items}: a row holds at least one item. Set it to 1 or more.")
    if not _longest(items):
        raise UserError(
            "there is nothing to pack: the split has no tokens. Check the corpus and the split shares."
        )
    if items.splittable:
        return
    if method == "concatenate":
        raise UserError(
            "packing='concatenate' cuts items where a row ends, and sentence pairs cannot be cut. "
            "Fix: --config.data.packing=best_fit (or none)."
        )
    if _longest(items) + items.overhead > row_length:
        raise UserError(
            f"an item of {_longest(items)} tokens plus {items.overhead} special ones does not fit a row of "
            f"{row_length} and cannot be cut. Make the pairs for this row length."
        )


_METHODS = {"none": _one_each, "concatenate": _concatenate, "best_fit": _best_fit}
