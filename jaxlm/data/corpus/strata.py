"""Shares by hash in which no label is forgotten. In: the label and the hash of every document. Out: the few documents
that go to another split than their hash says.

A label with two texts or more has one in the training split and one in the validation split. Guaranteed: what moves
depends on the set of documents alone, not on their order, and copies of a text move together; a label costs a handful
of numbers, however many documents it has.
"""

from collections.abc import Iterator

_DIGITS = 16  # of a hash, in hex

Moved = tuple[tuple[str, str], ...]  # (hash of a text in hex, its split)


class Strata:
    """Labels as they are read."""

    def __init__(self) -> None:
        self._ends: dict[
            str, dict[str, list[int]]
        ] = {}  # of every label, by split, those nearest to a border

    def add(self, label: str, split: str, digest: int) -> None:
        """A document. Test has the smallest hashes, then comes validation, then training."""
        near = self._ends.setdefault(label, {}).setdefault(split, [])
        if digest not in near:
            near.append(digest)
            near.sort(reverse=split != "train")
            del near[2:]

    def moves(self) -> Iterator[tuple[str, str, str, int]]:
        """(label, from, to, hash) of what has to move."""
        for label, near in sorted(self._ends.items()):
            left = {split: list(near.get(split, ())) for split in ("train", "validation", "test")}
            if sum(map(len, left.values())) < 2:
                continue
            for lacking, other in (("train", "validation"), ("validation", "train")):
                if left[lacking]:
                    continue
                source = other if len(left[other]) > 1 else "test"
                if left[source]:
                    digest = left[source].pop(0)
                    left[lacking].append(digest)
                    yield label, source, lacking, digest


def hexadecimal(digest: int) -> str:
    """As a config holds it."""
    return f"{digest:0{_DIGITS}x}"
