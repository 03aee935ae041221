"""Labelled tables that are already there, for trying every kind of fine-tuning out offline.

In: docstrings of `builtin`. Out: rows with the fields that recipes read, as from a .jsonl file.

    builtin:pydocs_words      tokens, tags: which words name a parameter (NAME), and which its type (TYPE)
    builtin:pydocs_sections   text, labels: what a docstring's beginning has sections about
    builtin:pydocs_alike      sentence1, sentence2, score: paragraphs of one docstring 5, of the next 2.5, far away 0
    builtin:pydocs_choices    question, 0, 1, 2, 3, label: which first sentence belongs to the rest of a docstring
    builtin:pydocs_relations  text, head, tail, label: whether a type is that of a parameter

What is learned from them says little of anything else.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxlm.data.corpus import readers
from jaxlm.data.corpus.builtin import PyDocs
from jaxlm.data.corpus.builtin_pairs import summaries
from jaxlm.data.corpus.builtin_questions import DESCRIBED, LONGEST
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record

Row = dict[str, Any]
VERSION = 1  # part of every identity: raise it when the same docstrings give other rows
_SECTION = re.compile(
    r"^(Parameters|Returns|Yields|Raises|Attributes|Methods|Examples?|Notes|References|See Also)\n",
    re.MULTILINE,
)
_WORDS = range(8, 60)  # of a paragraph that is compared


def words(documents: Sequence[str]) -> Iterator[Row]:
    """What follows from one parameter to the next but one, of up to LONGEST characters, word by word."""
    for text in documents:
        found = list(DESCRIBED.finditer(text))
        for one, other in zip(found[::2], found[1::2], strict=False):
            start, end = one.start(), other.end()
            marks = [(*m.span(k), label) for m in (one, other) for k, label in ((1, "NAME"), (2, "TYPE"))]
            parts = list(re.compile(r"\S+").finditer(text, start, min(end, start + LONGEST)))
            tags = [_tag(part.start(), marks) for part in parts]
            yield {"tokens": [part[0] for part in parts], "tags": tags}


def _tag(place: int, marks: list[tuple[int, int, str]]) -> str:
    for start, end, label in marks:
        if start <= place < end:
            return f"{'B' if place == start else 'I'}-{label}"
    return "O"


def sections(documents: Sequence[str]) -> Iterator[Row]:
    """The first LONGEST characters of docstrings with sections, without their headings."""
    for text in documents:
        begins = text[:LONGEST]
        if labels := sorted(set(_SECTION.findall(begins))):
            yield {"text": _SECTION.sub("", begins), "labels": labels}


def alike(documents: Sequence[str]) -> Iterator[Row]:
    """Two paragraphs, and how near to each other they stand."""
    found = []
    for text in documents:
        parts = [" ".join(part.split()) for part in text.split("\n\n")]
        fitting = [part for part in parts if len(part.split()) in _WORDS]
        if len(fitting) > 1:
            found.append(fitting[:2])
    for i, (first, second) in enumerate(found):
        for other, score in (
            (second, 5.0),
            (found[i - 1][0], 2.5),
            (found[(i + len(found) // 2) % len(found)][0], 0.0),
        ):
            yield {"sentence1": first, "sentence2": other, "score": score}


def choices(documents: Sequence[str]) -> Iterator[Row]:
    """The right first sentence among those of three docstrings far away."""
    found = list(summaries(iter(documents)))
    for i, (body, _) in enumerate(found):
        firsts = [found[(i + k * len(found) // 4) % len(found)][1] for k in range(4)]
        right = i % 4
        placed = {str((k + right) % 4): first for k, first in enumerate(firsts)}
        yield {"question": body, **placed, "label": str(right)}


def relations(documents: Sequence[str]) -> Iterator[Row]:
    """Two parameters that follow each other: a name with its type, in both directions, and with that of the other."""
    for text in documents:
        found = list(DESCRIBED.finditer(text))
        for one, other in zip(found[::2], found[1::2], strict=False):
            at, part = one.start(), text[one.start() : other.end()]
            if len(part) > LONGEST:
                continue
            name, own, others = (_place(*span, at) for span in (one.span(1), one.span(2), other.span(2)))
            yield {"text": part, "head": name, "tail": own, "label": "type(e1,e2)"}
            yield {"text": part, "head": own, "tail": name, "label": "type(e2,e1)"}
            yield {"text": part, "head": name, "tail": others, "label": "Other"}


def _place(start: int, end: int, at: int) -> dict[str, int]:
    return {"start": start - at, "end": end - at}


KINDS: dict[str, Callable[[Sequence[str]], Iterator[Row]]] = {
    "pydocs_words": words,
    "pydocs_sections": sections,
    "pydocs_alike": alike,
    "pydocs_choices": choices,
    "pydocs_relations": relations,
}


class PyDocsTable(PyDocs):
    """The rows of one kind."""

    def __init__(
        self, kind: str, wanted: Wanted, cache: str | os.PathLike[str], log: Callable[[str], None]
    ) -> None:
        super().__init__(cache, log)
        self.kind, self.wanted = kind, wanted

    def identity(self) -> Any:
        return {"builtin": self.kind, "key": self.key, "version": VERSION, **self.wanted.describe()}

    def records(self) -> Iterator[Record]:
        rows = KINDS[self.kind]([record.texts[0] for record in super().records()])
        for number, row in enumerate(rows, 1):
            yield readers.of(row, self.wanted, f"builtin:{self.kind}:{number}", number)
