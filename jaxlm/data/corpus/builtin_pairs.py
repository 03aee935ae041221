"""Pairs of texts that are already there. In: the documents of `builtin:pydocs`. Out: (source, target) records.

`builtin:pydocs_summaries`: what a docstring says behind its first paragraph, and that one. `builtin:pydocs_names`:
a name of code, and its words: (get_file_name, get file name), (HTTPServerError, http server error). For trying out
summarisation and translation offline: what is learned from them says little of either.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from jaxlm.data.corpus.builtin import PyDocs
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError

Pair = tuple[str, str]
_NAME = re.compile(r"\b(?:[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+|[A-Z]*[a-z0-9]+(?:[A-Z]+[a-z0-9]+)+)\b")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
SHORTEST_BODY = 15  # words: less has nothing to sum up
SUMMARY_WORDS = range(4, 31)


def summaries(documents: Iterator[str]) -> Iterator[Pair]:
    """(body, first paragraph) where that is a sentence of 4 to 30 words."""
    for text in documents:
        first, _, body = (" ".join(part.split()) for part in text.partition("\n\n"))
        if len(first.split()) in SUMMARY_WORDS and first.endswith(".") and len(body.split()) >= SHORTEST_BODY:
            yield body, first


def names(documents: Iterator[str]) -> Iterator[Pair]:
    """Every name of two or more words, once."""
    seen: set[str] = set()
    for text in documents:
        for name in _NAME.findall(text):
            if name not in seen:
                seen.add(name)
                yield name, " ".join(word.lower() for word in _WORD.findall(name))


KINDS: dict[str, Callable[[Iterator[str]], Iterator[Pair]]] = {
    "pydocs_summaries": summaries,
    "pydocs_names": names,
}


class PyDocsPairs(PyDocs):
    """The pairs of one kind, as (source, target)."""

    def __init__(self, kind: str, cache: str | os.PathLike[str], log: Callable[[str], None]) -> None:
        super().__init__(cache, log)
        self.kind = kind

    def identity(self) -> Any:
        return {"builtin": self.kind, "key": self.key, "version": 1}

    def records(self) -> Iterator[Record]:
        documents = (record.texts[0] for record in super().records())
        made = KINDS[self.kind](documents)
        return (Record(pair, origin=(0, number)) for number, pair in enumerate(made, 1))


def open_pairs(
    kind: str, wanted: Wanted, cache: str | os.PathLike[str], log: Callable[[str], None]
) -> PyDocsPairs:
    """The corpus builtin:KIND. UserError for other than two fields, which may have any names."""
    if len(wanted.texts) != 2 or wanted.values:
        raise UserError(
            f'corpus "builtin:{kind}": its records are two texts and nothing else. Fix: '
            "\"--config.data.text_fields=('source', 'target')\" \"--config.data.columns=()\"."
        )
    return PyDocsPairs(kind, cache, log)
