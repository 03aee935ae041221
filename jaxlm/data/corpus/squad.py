"""Questions in SQuAD's own form, 1.1 or 2.0: {"data": [{"paragraphs": [{"context", "qas": [...]}]}]}. In: a .json file.

Out: a row for every question: {"id", "title", "question", "context", "answers"}; of one that is impossible the answers
are []. A file may be one line or many.
"""

import json
from collections.abc import Iterator
from typing import Any

from jaxlm.data.corpus import files, lines
from jaxlm.errors import UserError

_FORM = (
    '{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}'
    "]}]}]}"
)
_Row = tuple[str, int, dict[str, Any]]


def rows(path: str) -> Iterator[_Row] | None:
    """(where it stands, its number, the row) of every question; None: the file has another form."""
    found = _read(path)
    return None if found is None else _questions(path, found)


def _read(path: str) -> list[Any] | None:
    """Its "data". What is no such file begins with another object, or with a line that is one."""
    with files.opened(path) as stream:
        first = stream.readline(lines.LONGEST_DOCUMENT + 1)
        while first and not first.strip():
            first = stream.readline(lines.LONGEST_DOCUMENT + 1)
        whole = _parsed(first)
        if (
            whole is None
            and first.lstrip().startswith(b"{")
            and b'"data"' in (head := first + stream.read(4096))
        ):
            rest = stream.read(lines.LONGEST_DOCUMENT + 1)
            lines.check_length(len(head) + len(rest), path, 1)
            whole = _parsed(head + rest)
            if whole is None and b'"paragraphs"' in head:
                raise UserError(
                    f"{path}: not valid JSON: cut short, or damaged. The form is {_FORM}. Fetch the file again."
                )
    data = whole.get("data") if isinstance(whole, dict) else None
    told = isinstance(data, list) and all(isinstance(one, dict) and "paragraphs" in one for one in data)
    return data if told and data else None


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # of UTF-8, too
        return None


def _questions(path: str, data: list[Any]) -> Iterator[_Row]:
    number = 0
    for article in data:
        for paragraph in _list(article, "paragraphs", f"{path}: article {article.get('title')!r:.60}"):
            at = f"{path}: {f'behind question {number}' if number else 'the first paragraph'}"
            for question in _list(paragraph, "qas", at):
                number += 1
                yield _row(path, number, article, paragraph, question)


def _row(path: str, number: int, article: Any, paragraph: Any, question: Any) -> _Row:
    where = f"{path}: question {number}"
    if not isinstance(question, dict):
        raise _wrong(where)
    where += f" (id {question['id']!s:.60})" if "id" in question else ""
    row = {"id": question.get("id", str(number)), "title": article.get("title", "")}
    row |= {"question": question.get("question"), "context": paragraph.get("context")}
    if question.get("is_impossible") is True:
        row["answers"] = []
    elif "answers" in question:
        row["answers"] = question["answers"]
    return where, number, row


def _list(parent: Any, name: str, where: str) -> list[Any]:
    if isinstance(parent, dict) and isinstance(parent.get(name), list):
        return parent[name]
    raise _wrong(where)


def _wrong(where: str) -> UserError:
    return UserError(f"{where}: not in SQuAD's form, which is {_FORM}. Repair or remove it.")
