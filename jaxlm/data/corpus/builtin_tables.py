"""Labelled tables that are already there, for trying every kind of fine-tuning out offline.

In: docstrings of `builtin`. Out: rows with the fields that recipes read, collected once as a file of JSON lines.

    builtin:pydocs_words      tokens, tags: which words name a parameter (NAME), and which say its type (TYPE)
    builtin:pydocs_sections   text, labels: from which sections of a docstring one to three beginnings are
    builtin:pydocs_alike      sentence1, sentence2, score: paragraphs of one docstring 5, of neighbours 2.5, others 0
    builtin:pydocs_choices    question, 0, 1, 2, 3, label: which of four types a described parameter has
    builtin:pydocs_relations  text, head, tail, label: which of two parts is the type of the other, if one is

Parameters are those that are described as numpy does, `name : type` above a description. No text stands in two rows,
so that what is held out is not trained on. What is learned from them says little of anything else.
"""

import collections
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from jaxlm.data.corpus import builtin
from jaxlm.data.corpus.builtin import PyDocs, Row
from jaxlm.data.corpus.columns import Wanted

VERSION = 1  # raise it when the same docstrings give other rows
LONGEST = 600  # characters of two parameters
COMMON = 50  # so many parameters have a type that is a label
SECTION = 120  # characters of a section
COMPARED = range(8, 60)  # words of a paragraph
_TITLES = {  # as numpy or Google writes them: the label
    **dict.fromkeys(("Parameters", "Args", "Arguments"), "parameters"),
    **dict.fromkeys(("Examples", "Example"), "examples"),
    **dict.fromkeys(("Notes", "Note"), "notes"),
    **dict.fromkeys(("See Also", "See also"), "see also"),
    **{title: title.lower() for title in ("Returns", "Raises", "References")},
}
_TITLE = re.compile(f"^({'|'.join(_TITLES)}):?[ ]*$", re.MULTILINE)
_PLAIN = re.compile("[a-z_]+")  # a type that is one word
_DESCRIBED = re.compile(r"^(\w+) : (\S[^\n]*)\n[ ]{2,}(\S[^\n]*)", re.MULTILINE)


def words(documents: Sequence[str]) -> Iterator[Row]:
    """Two parameters word by word, without the colon between name and type."""
    for text, one, other in _neighbours(documents):
        marks = [(*match.span(k), label) for match in (one, other) for k, label in ((1, "NAME"), (2, "TYPE"))]
        parts = list(re.compile(r"\S+").finditer(text, one.start(), other.end()))
        tagged = [(part[0], _tag(part.start(), marks)) for part in parts if part[0] != ":"]
        yield {"tokens": [word for word, _ in tagged], "tags": [tag for _, tag in tagged]}


def _tag(place: int, marks: list[tuple[int, int, str]]) -> str:
    for start, end, label in marks:
        if start <= place < end:
            return f"{'B' if place == start else 'I'}-{label}"
    return "O"


def sections(documents: Sequence[str]) -> Iterator[Row]:
    """How one, two or three sections begin that follow each other in a docstring, without their titles; the titles."""
    sizes = itertools.cycle((1, 2, 3))
    for text in documents:
        _, *parts = _TITLE.split(text)
        first = (part.strip("\n").partition("\n\n")[0][:SECTION].rstrip() for part in parts[1::2])
        found = iter([(_TITLES[title], part) for title, part in zip(parts[::2], first, strict=True) if part])
        while some := list(itertools.islice(found, next(sizes))):
            yield {
                "text": "\n\n".join(part for _, part in some),
                "labels": sorted({title for title, _ in some}),
            }


def alike(documents: Sequence[str]) -> Iterator[Row]:
    """Two paragraphs, and how near to each other they stand; of three docstrings and three far away three pairs."""
    found = []
    for text in documents:
        paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
        if len(fitting := [part for part in paragraphs if len(part.split()) in COMPARED]) > 1:
            found.append(fitting[:2])
    threes = list(zip(found[::3], found[1::3], found[2::3], strict=False))
    for i, (alone, one, other) in enumerate(threes):
        far = threes[(i + len(threes) // 2) % len(threes)][2]
        for (first, second), score in ((alone, 5.0), ((one[0], other[0]), 2.5), ((one[1], far[1]), 0.0)):
            yield {"sentence1": first, "sentence2": second, "score": score}


def choices(documents: Sequence[str]) -> Iterator[Row]:
    """Name and description of a parameter; its type among three that others far away have."""
    found = {_question(match): _type(match) for text in documents for match in _DESCRIBED.finditer(text)}
    common = _common(found.values())
    asked = [(question, kind) for question, kind in found.items() if kind in common]
    for i, (question, kind) in enumerate(asked):
        others = (asked[(i + k * len(asked) // 7 + k) % len(asked)][1] for k in range(1, len(asked)))
        allowed = itertools.islice(_once(itertools.chain([kind], others)), 4)
        placed = {str((k + i) % 4): one for k, one in enumerate(allowed)}
        yield {"question": question, **placed, "label": str(i % 4)}


def _once(names: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    return (name for name in names if not (name in seen or seen.add(name)))


def relations(documents: Sequence[str]) -> Iterator[Row]:
    """Two parameters: the name of the first and its type, its type and its name, or its name and the other's type."""
    for i, (text, one, other) in enumerate(_neighbours(documents)):
        at = one.start()
        name, own, others = (
            {"start": a - at, "end": b - at} for a, b in (one.span(1), one.span(2), other.span(2))
        )
        head, tail, label = (
            (name, own, "type(e1,e2)"),
            (own, name, "type(e2,e1)"),
            (name, others, "Other"),
        )[i % 3]
        yield {"text": text[at : other.end()], "head": head, "tail": tail, "label": label}


def _question(match: re.Match[str]) -> str:
    return f"{match[1]}: {match[3]}"


def _type(match: re.Match[str]) -> str:
    """Without what follows a comma, such as `optional`."""
    return match[2].partition(",")[0]


def _common(kinds: Iterable[str]) -> set[str]:
    """Those of one word that many parameters have."""
    times = collections.Counter(kinds)
    return {kind for kind, number in times.items() if number >= COMMON and _PLAIN.fullmatch(kind)}


def _neighbours(documents: Sequence[str]) -> Iterator[tuple[str, re.Match[str], re.Match[str]]]:
    """(docstring, a parameter, the next one) of up to LONGEST characters, every parameter in one pair."""
    for text in documents:
        found = list(_DESCRIBED.finditer(text))
        for one, other in zip(found[::2], found[1::2], strict=False):
            if other.end() - one.start() <= LONGEST:
                yield text, one, other


KINDS: dict[str, Callable[[Sequence[str]], Iterator[Row]]] = {
    "pydocs_words": words,
    "pydocs_sections": sections,
    "pydocs_alike": alike,
    "pydocs_choices": choices,
    "pydocs_relations": relations,
}


class PyDocsTable(builtin.Table):
    """The rows of one kind, each text once."""

    def __init__(
        self, kind: str, cache: str | os.PathLike[str], log: Callable[[str], None], wanted: Wanted
    ) -> None:
        self.name, self.documents = kind, PyDocs(cache, log)
        super().__init__(cache, log, self.documents.files, (builtin.FORMAT, VERSION), wanted)

    @functools.cached_property
    def path(self) -> Path:
        """The file, found or written now; the docstrings before it, which the same lock guards."""
        _ = self.documents.path
        return super().path

    def rows(self) -> Iterator[Row]:
        rows = KINDS[self.name]([record.texts[0] for record in self.documents.records()])
        return iter({str(next(iter(row.values()))): row for row in rows}.values())
