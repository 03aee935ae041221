"""Segment pairs as items: `[CLS] a [SEP] b [SEP]`. In: shards with sentence lengths. Out: Items that stay whole.

The pairs of a split are a table made ahead of time from sentence lengths alone (see pair_table.py), kept on disk and
memory-mapped; the tokens are read when a row is built.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.data import pair_table
from jaxlm.data.items import CHUNK, Piece, Place, Shards, digest, read
from jaxlm.data.plan import write_folder
from jaxlm.errors import UserError

# Part of every fingerprint: raise it when the same input makes other pairs.
VERSION = 2
NEXT, NEGATIVE = 0, 1


class Pairs:
    """One item per pair; label 0 where b follows a, 1 where it does not (see pair_table.Settings.negatives)."""

    overhead = 3
    splittable = False

    def __init__(
        self, shards: Shards, vocabulary: Vocabulary, table: np.ndarray, fingerprint: str, path: str = ""
    ) -> None:
        self.shards, self.vocabulary, self.table, self.path = shards, vocabulary, table, path
        self.fingerprint = fingerprint
        self.cls, self.sep = vocabulary.cls, vocabulary.sep
        self._lengths: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of both sentences, without special tokens."""
        if self._lengths is None:  # only the plan needs them, so reader processes do without
            self._lengths = np.empty(len(self.table), np.uint32)
            for at in range(0, len(self.table), CHUNK):
                block = self.table[at : at + CHUNK]
                self._lengths[at : at + CHUNK] = block["length_a"] + block["length_b"]
        return self._lengths

    def pieces(self, places: Sequence[Place]) -> list[Piece]:
        """[CLS] a [SEP] b [SEP], types 0 up to the first [SEP] and 1 after it; a place is always a whole pair."""
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
        tokens, types = np.empty(size, np.int32), np.zeros(size, np.int32)
        tokens[0], tokens[len(a) + 1], tokens[-1] = self.cls, self.sep, self.sep
        tokens[1 : len(a) + 1], tokens[len(a) + 2 : -1] = a, b
        types[len(a) + 2 :] = 1
        return Piece(tokens, types, label)

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map would travel to a reader process as a copy of the whole table; its path is enough.
        table = None if self.path else self.table
        return _reopen, (self.shards, self.vocabulary, table, self.fingerprint, self.path)


def _reopen(shards: Any, vocabulary: Vocabulary, table: Any, fingerprint: str, path: str) -> Pairs:
    table = np.load(path, mmap_mode="r") if path else table
    return Pairs(shards, vocabulary, table, fingerprint, path)


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
    cache: str | os.PathLike[str] | None,
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
    if cache is None:
        made = list(_blocks(shards, settings))
        return Pairs(shards, vocabulary, np.concatenate(made), fingerprint)
    path = pathlib.Path(cache) / f"pairs-{fingerprint[:24]}" / "pairs.npy"
    if not path.exists():
        blocks = _blocks(shards, settings)
        write_folder(path.parent, lambda folder: _append_blocks(folder / path.name, blocks))
    return _reopen(shards, vocabulary, None, fingerprint, str(path))


def _blocks(shards: Shards, settings: pair_table.Settings) -> Iterator[np.ndarray]:
    """The blocks of the table; at least one pair."""
    none = True
    for block in pair_table.blocks(pair_table.read_sentences(shards), settings):
        none = none and not len(block)
        yield block
    if none:
        raise UserError(
            "no sentence pair can be made: the split has no sentences, or no document with two where their order is "
            "asked. Use a larger corpus, or one of longer documents."
        )


def _append_blocks(path: pathlib.Path, blocks: Any) -> None:
    """Writes blocks one after another as one .npy file, without holding them all: their number is not known before."""
    count = 0
    with path.open("wb") as file:
        _write_header(file, 0)
        begin = file.tell()
        for block in blocks:
            file.write(block.data)
            count += len(block)
        file.seek(0)
        _write_header(file, count)
        if file.tell() != begin:  # numpy pads headers so that a growing first axis keeps their size
            raise AssertionError("the .npy header changed its size")


def _write_header(file: Any, count: int) -> None:
    description = np.lib.format.dtype_to_descr(pair_table.PAIR)
    np.lib.format.write_array_header_1_0(
        file, {"descr": description, "fortran_order": False, "shape": (count,)}
    )
