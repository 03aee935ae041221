"""A corpus whose held-out splits have files of their own. In: a source for each split. Out: one, split as it came."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.source import Source


class Parted:
    """Documents of several sources, each marked with its split; training first."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = sources

    def identity(self) -> Any:
        """Of all of them."""
        return {split: source.identity() for split, source in self.sources.items()}

    def text_bytes(self) -> int:
        """Of all of them."""
        return sum(source.text_bytes() for source in self.sources.values())

    def names(self) -> list[str]:
        """Of all of them, in order."""
        return [name for source in self.sources.values() for name in source.names()]

    def records(self) -> Iterator[Record]:
        """One source after the other."""
        before = 0
        for split, source in self.sources.items():
            marked = "" if split == "train" else split  # of the training files a share may be held out
            for record in source.records():
                file, line = record.origin
                yield dataclasses.replace(record, split=marked, origin=(before + file, line))
            before += len(source.names())

    def sample(self, limit: int) -> Iterator[Record]:
        """Of what is trained on."""
        return self.sources["train"].sample(limit)
