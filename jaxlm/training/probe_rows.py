"""Rows that show whether documents packed together see each other. In: rows of a run. Out: `Case`s, numpy.

Guaranteed: the documents of made rows end before, on and behind edges of the tiles that kernels work in, and within
them; of every two documents of a made row there is a case that keeps one and replaces the other.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from jaxlm.batch import Batch, stacked

VOCABULARY = 128  # ids of the probe's model: which tokens stand in a row does not matter

Side = tuple[str, str, str]  # fields of a Batch: tokens, segments, positions
_SOURCE: Side = ("source_tokens_BS", "source_segments_BS", "source_positions_BS")
_TARGET: Side = ("tokens_BT", "segments_BT", "positions_BT")
_MADE = 3  # rows whose documents end one before, on and one behind an edge, in turns
_GROUPS = 4  # documents that stand this many apart are kept or replaced together
_TILES = (
    512,
    384,
    256,
    128,
)  # in which kernels compute; where splash takes larger ones, edges of these are theirs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A batch, and what of it is compared with the packed rows: per side, the source (if any) first."""

    batch: Batch
    kept: tuple[np.ndarray, ...]  # bool [B, T]: places that are compared
    places: tuple[np.ndarray, ...]  # int32 [B, T]: where they stand in the packed rows
    exact: bool  # nothing but other documents differs: not a bit may change


def sides(batch: Batch) -> list[Side]:
    """Of an encoder-decoder also the source."""
    return [*([_SOURCE] if batch.source_tokens_BS is not None else []), _TARGET]


def probe_rows(real: Batch, rows: int) -> list[Batch]:
    """So many rows: of each four three made ones and one of the `real` batch, those with most documents first."""
    by_documents = np.argsort(-real.segments_BT.max(axis=1), kind="stable")
    found, rng = [], np.random.default_rng(0)
    for r in range(rows):
        turn, made = divmod(r, _MADE + 1)
        like = _row(real, int(by_documents[turn % len(by_documents)]))
        found.append(_made(like, made, rng) if made < _MADE else like)
    return found


def cases(rows: Sequence[Batch]) -> Iterator[Case]:
    """The packed rows first; then some documents replaced by others, then each of four documents alone."""
    yield _case([_changed(row, None) for row in rows], exact=False)
    for kept in ((0, 2), (1, 3), (0, 1), (2, 3)):  # tells any two groups apart, both ways
        yield _case([_changed(row, kept) for row in rows], exact=True)
    for number in range(min(_GROUPS, max(int(row.segments_BT.max()) for row in rows))):
        yield _case([_alone(row, number) for row in rows], exact=False)


def ends(row: Batch) -> list[int]:
    """Where the documents of a row end."""
    return (np.flatnonzero(np.diff(row.segments_BT, append=-1)) + 1).tolist()


def misplaced(batch: Batch) -> str:
    """Which document's positions do not count from 0, or "". Rotations hide that from a comparison of outputs."""
    for tokens, segments, positions in sides(batch):
        for r, row in enumerate(getattr(batch, segments)):
            for document in range(1, int(row.max()) + 1):
                found = getattr(batch, positions)[r][row == document]
                if not np.array_equal(found, np.arange(len(found))):
                    side = "source " if tokens.startswith("source") else ""
                    return f"document {document} of {side}row {r} has the positions {found[:3].tolist()}..."
    return ""


def _edges(length: int) -> list[int]:
    """Three places at which documents end: edges of the largest tile that a row has several of, or quarters."""
    tile = next((t for t in _TILES if length % t == 0 and length >= 2 * t), max(length // 4, 2))
    found = list(range(tile, length, tile))
    if len(found) < 3:
        return sorted({*found, tile // 2, length - tile // 2})[:3]
    return [found[0], found[len(found) // 2], found[-1]]


def _bounds(length: int, turn: int) -> list[int]:
    inner = [edge + (turn + j) % _MADE - 1 for j, edge in enumerate(_edges(length))]
    padding = turn % _MADE * max(length // 64, 1)
    return sorted({0, *inner, max(length - padding, inner[-1] + 1)})


def _made(like: Batch, turn: int, rng: np.random.Generator) -> Batch:
    """A row with the fields of `like` and documents of its own."""
    bounds = [_bounds(len(getattr(like, side[0])), turn + i) for i, side in enumerate(sides(like))]
    documents = min(like.most_segments or _GROUPS, *(len(b) - 1 for b in bounds), _GROUPS)
    values = {}
    for side, all_bounds in zip(sides(like), bounds, strict=True):
        length = len(getattr(like, side[0]))
        segments, positions, lengths = (np.zeros(length, np.int32) for _ in range(3))
        for number, (a, b) in enumerate(itertools.pairwise([*all_bounds[:documents], all_bounds[-1]]), 1):
            segments[a:b], positions[a:b], lengths[a:b] = number, np.arange(b - a), b - a
        tokens = rng.integers(VOCABULARY, size=length, dtype=np.int32)
        values |= dict(zip(side, (tokens, segments, positions), strict=True))
        if side is _TARGET:
            values["types_BT"] = (2 * positions > lengths).astype(np.int32)
            values["prefix_BT"] = (3 * positions < lengths).astype(np.int32)
    known = {name: value for name, value in values.items() if getattr(like, name) is not None}
    return dataclasses.replace(like, **known)


def _changed(row: Batch, groups: Sequence[int] | None) -> tuple[Batch, list[np.ndarray], list[np.ndarray]]:
    """The row with other tokens in all but these groups of documents, in padding, too. None: nothing is replaced."""
    tokens, kept, places = {}, [], []
    for name, segments, _ in sides(row):
        numbers, ids = getattr(row, segments), getattr(row, name) % VOCABULARY
        stays = numbers > 0
        if groups is not None:
            stays = stays & np.isin((numbers - 1) % _GROUPS, groups)
            other = 1 + np.arange(len(ids)) * 7 % (VOCABULARY - 1)  # never a multiple of the vocabulary
            ids = np.where(stays, ids, (ids + other) % VOCABULARY)
        tokens[name] = ids.astype(np.int32)
        kept.append(stays)
        places.append(np.arange(len(ids), dtype=np.int32))
    return dataclasses.replace(row, **tokens), kept, places


def _alone(row: Batch, number: int) -> tuple[Batch, list[np.ndarray], list[np.ndarray]]:
    """One document at the beginning of a row of padding, with positions counted anew."""
    documents = int(row.segments_BT.max())
    document = 1 + round(number * (documents - 1) / (_GROUPS - 1)) if documents > _GROUPS else number + 1
    document = min(document, documents)
    values, kept, places = {}, [], []
    for side in sides(row):
        found = np.flatnonzero(getattr(row, side[1]) == document) if document else np.zeros(0, int)
        at, length = np.arange(len(found)), len(getattr(row, side[0]))
        moved = np.zeros(length, np.int32)
        moved[at] = found
        kept.append(np.arange(length) < len(found))
        places.append(moved)
        laid = {side[0]: getattr(row, side[0])[moved] % VOCABULARY, side[1]: 1, side[2]: np.arange(length)}
        if side is _TARGET:
            laid |= {
                n: getattr(row, n)[moved] for n in ("types_BT", "prefix_BT") if getattr(row, n) is not None
            }
        values |= {name: np.where(kept[-1], value, 0).astype(np.int32) for name, value in laid.items()}
    return dataclasses.replace(row, **values), kept, places


def _case(laid: Sequence[tuple[Batch, list[np.ndarray], list[np.ndarray]]], *, exact: bool) -> Case:
    batches, kept, places = zip(*laid, strict=True)
    together = lambda found: tuple(np.stack(rows) for rows in zip(*found, strict=True))
    return Case(batch=stacked(batches), kept=together(kept), places=together(places), exact=exact)


def _row(batch: Batch, r: int) -> Batch:
    names = [name for side in sides(batch) for name in side]
    names += [name for name in ("types_BT", "prefix_BT") if getattr(batch, name) is not None]
    return dataclasses.replace(batch, targets=None, **{name: getattr(batch, name)[r] for name in names})
