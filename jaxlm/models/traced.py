"""What is found while a program is traced, for those who ask. In: notes. Out: lists of them; unasked, none is kept.

And what is not known then: sizes, where one program is made for all of them (`jax.export`).
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

Note = TypeVar("Note")


class Recorder(Generic[Note]):
    """Notes of one kind."""

    def __init__(self) -> None:
        self._lists: list[list[Note]] = []

    @property
    def asked(self) -> bool:
        """Whether anyone collects them now."""
        return bool(self._lists)

    def add(self, note: Note) -> None:
        """To the lists of all who collect them."""
        for one in self._lists:
            one.append(note)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[list[Note]]:
        """Collects the notes of what is traced within; of a loop's body once."""
        self._lists.append([])
        try:
            yield self._lists[-1]
        finally:
            self._lists.pop()


def known(size: Any) -> bool:
    """Whether a dimension is a number, and no symbol that stands for any, on whose size nothing can depend."""
    return isinstance(size, int)
