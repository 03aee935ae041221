"""What every kind of corpus offers, wherever it is. Out: records in a fixed order, and what identifies them."""

from collections.abc import Iterator
from typing import Any, Protocol

from jaxlm.data.corpus.record import Record


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


def first_bytes(records: Iterator[Record], limit: int) -> Iterator[Record]:
    """Records from the start until `limit` bytes of text have passed."""
    for record in records:
        yield record
        limit -= record.text_bytes
        if limit <= 0:
            return
