"""Questions to the built-in corpus: 'builtin:pydocs_questions', for trying question answering out offline.

In: docstrings of `builtin` that describe parameters as numpy does, `name : type` above a description. Out: "What type
is name?" and "What does name mean?", each with the docstring, in which the answer stands. Docstrings of up to `LONGEST`
characters; of each the first `PARAMETERS` names that it describes once.
"""

import collections
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from jaxlm.data.corpus.answers import Answers
from jaxlm.data.corpus.builtin import PyDocs
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record, Span
from jaxlm.data.corpus.source import Source
from jaxlm.errors import UserError

NAME = "pydocs_questions"
FORMAT = 1
LONGEST = 600
PARAMETERS = 3
_DESCRIBED = re.compile(r"^(\w+) ?: ?(\S[^\n]*)\n[ ]{2,}(\S[^\n]*)", re.MULTILINE)


def open_questions(wanted: Wanted, cache: str | os.PathLike[str], log: Callable[[str], None]) -> Source:
    """UserError for other fields than a question, a context, and its answers."""
    texts, columns = wanted.texts, wanted.values
    if (
        len(texts) == 2
        and len(columns) == 1
        and isinstance(columns[0], Answers)
        and columns[0].text == texts[1]
    ):
        return PyQuestions(cache, log, columns[0].field)
    raise UserError(
        f'corpus "builtin:{NAME}": has a question, a context and answers. Fix: another corpus, or '
        "\"--config.data.text_fields=('question', 'context')\" "
        "\"--config.data.columns=(Answers(field='answers', text='context'),)\"."
    )


class PyQuestions(PyDocs):
    """What the parameters of documented functions are."""

    def __init__(self, cache: str | os.PathLike[str], log: Callable[[str], None], field: str):
        super().__init__(cache, log)
        self.field = field

    def identity(self) -> Any:
        return {"builtin": NAME, "format": [FORMAT, LONGEST, PARAMETERS], "key": self.key}

    def records(self) -> Iterator[Record]:
        for record in super().records():
            (text,) = record.texts
            for question, (start, end) in questions(text):
                found: tuple[Span, ...] = ((start, end, self.field),)
                yield Record((question, text), (found,), origin=record.origin)


def questions(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """(question, the characters of its answer) of a docstring."""
    if len(text) > LONGEST:
        return
    found = list(_DESCRIBED.finditer(text))
    times = collections.Counter(match[1] for match in found)
    for match in [match for match in found if times[match[1]] == 1][:PARAMETERS]:
        yield f"What type is {match[1]}?", _stripped(match, 2)
        yield f"What does {match[1]} mean?", _stripped(match, 3)


def _stripped(match: re.Match[str], group: int) -> tuple[int, int]:
    return match.start(group), match.start(group) + len(match[group].rstrip())
