"""What every kind of corpus offers, wherever it is. Out: records in a fixed order, and what identifies them."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError


class Source(Protocol):
    """A corpus, opened."""

    def identity(self) -> Any:
        """JSON value that changes when the content does."""
        ...

    def text_bytes(self) -> int:
        """Estimate of the bytes of text; 0 when unknown."""
        ...

    def names(self) -> list[str]:
        """The files, or the one place, that the origins of records count."""
        ...

    def records(self) -> Iterator[Record]:
        """All documents in a fixed order, none of them empty."""
        ...

    def sample(self, limit: int) -> Iterator[Record]:
        """About `limit` bytes of documents, for training a tokenizer, without reading the whole of a big corpus."""
        ...


class Reader:
    """A corpus of one's own: a keyword-only dataclass with `records`, given to a run as `Data.reader`.

    It is a `Source` whose documents are the same, in the same order, as long as `identity` is.
    """

    version: ClassVar[int] = 1  # raise it when the same fields give other documents

    def records(self) -> Iterator[Record]:
        """The documents, such as Record(("text",)); with `text_fields`, one text for each, and so with `columns`."""
        raise NotImplementedError

    def identity(self) -> Any:
        """The fields: what is read from elsewhere (sizes and times of files) has to be added."""
        made = [type(self).__qualname__, self.version, vars(self)]
        return json.loads(json.dumps(made, default=repr))  # as it is read back

    def text_bytes(self) -> int:
        """Not known."""
        return 0

    def names(self) -> list[str]:
        """One place."""
        return [type(self).__name__]

    def sample(self, limit: int) -> Iterator[Record]:
        """From the start."""
        return first_bytes(self.records(), limit)


def check_reader(reader: Any, source: str, where: str) -> None:
    """UserError for what is no reader, or one beside a corpus."""
    if reader is None:
        return
    if not (isinstance(reader, Reader) and dataclasses.is_dataclass(reader)):
        raise UserError(
            f"{where}.reader={reader!r}: allowed are dataclasses that derive from jaxlm.data.corpus.source.Reader."
        )
    if source:
        raise UserError(
            f"{where}: there are {source!r} and a {where}.reader, {type(reader).__name__}. Fix: an empty name for the "
            f"one, or --{where}.reader=None."
        )


def first_bytes(records: Iterator[Record], limit: int) -> Iterator[Record]:
    """Records from the start until `limit` bytes of text have passed."""
    for record in records:
        yield record
        limit -= record.text_bytes
        if limit <= 0:
            return
