"""Answers that stand in a text, as SQuAD has them. In: values of records. Out: `Span`s of its characters.

The first answer of a question is trained on, all of them are right when a model is measured; none: the question has no
answer there. The shards keep the first as a span (see `spans`), of all tokens that it touches.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxlm.data.corpus import spans
from jaxlm.data.corpus.record import Span
from jaxlm.errors import UserError

_ALLOWED = '{"text", "answer_start"}, a list of such, or {"text": [...], "answer_start": [...]}'


@dataclasses.dataclass(kw_only=True)
class Answers:
    """A list of {"text", "answer_start"}, or one object of two lists: SQuAD's. Empty or null: there is no answer.

    In place of the field a row may have `answer` and `start`, or `answer_start`; an empty `answer` is none.
    """

    field: str  # the field of the record that holds them
    text: str  # the text field that they stand in

    def check(self, texts: tuple[str, ...], where: str) -> None:
        """UserError unless it is about one of the texts."""
        spans.Spans(field=self.field, text=self.text).check(texts, where)

    def read(self, value: Any, text: str, where: str) -> tuple[Span, ...]:
        """The answers to a text as it stands in the record, in their order; UserError for one that is not there."""
        front, length = len(text) - len(text.lstrip()), len(text.strip())
        found = [self._place(said, start, text, where) for said, start in self._each(value, where)]
        return tuple((max(a - front, 0), min(b - front, length), self.field) for a, b in found)

    def _each(self, value: Any, where: str) -> list[tuple[Any, Any]]:
        if isinstance(value, dict) and isinstance(value.get("text"), list):
            given, starts = value["text"], value.get("answer_start")
            if isinstance(starts, list) and len(starts) == len(given):
                return list(zip(given, starts, strict=True))
        elif isinstance(value, dict):
            return [(value.get("text"), value.get("answer_start"))]
        elif isinstance(value, list) and all(isinstance(one, dict) for one in value):
            return [(one.get("text"), one.get("answer_start")) for one in value]
        elif value is None:
            return []
        raise self._wrong(value, where)

    def _place(self, said: Any, start: Any, text: str, where: str) -> tuple[int, int]:
        if not (isinstance(said, str) and said.strip() and type(start) is int):
            raise self._wrong({"text": said, "answer_start": start}, where)
        said = spans.whole(said)
        there = text[start : start + len(said)] if start >= 0 else ""
        if there != said:
            right = text.find(said)
            hint = f' The first "{said:.40}" of the text is at {right}.' if right >= 0 else ""
            raise UserError(
                f'{where}: the answer "{said:.80}" is said to stand at {start}, and there stands "{there:.80}".{hint} '
                f'Offsets count characters (not bytes) of "{self.text}" as it is in the record. Repair or remove the '
                "question."
            )
        front = len(said) - len(said.lstrip())
        return start + front, start + front + len(said.strip())

    def _wrong(self, value: Any, where: str) -> UserError:
        return UserError(
            f'{where}: field "{self.field}" is {value!r:.80}; allowed are {_ALLOWED} with a text that is not empty '
            "and a whole number; [] or null where there is no answer. Repair or remove the question."
        )


def of_tokens(found: tuple[Span, ...], offsets: np.ndarray) -> np.ndarray:
    """int32 [tokens]: 1 and 2s at the tokens that the first answer touches, else 0. `offsets` [tokens, 2]: their
    characters. An answer that no token stands for is none."""
    values = np.zeros(len(offsets), np.int32)
    for start, end, _ in found[:1]:
        touched = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start))
        if len(touched):
            values[touched[0] : touched[-1] + 1] = 2
            values[touched[0]] = 1
    return values


def completed(
    rows: Iterable[tuple[str, int, dict[str, Any]]], columns: tuple[Any, ...]
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The rows, with the field of each `Answers` made of `answer` and `start` where it is missing."""
    fields = [column.field for column in columns if isinstance(column, Answers)]
    for where, number, row in rows:
        if "answer" in row:
            start = row.get("start", row.get("answer_start"))
            row = {**dict.fromkeys(fields, _flat(row["answer"], start)), **row}
        yield where, number, row


def _flat(said: Any, start: Any) -> Any:
    if said is None or (isinstance(said, str) and not said.strip()):
        return []
    digits = isinstance(start, str) and start.strip().isdecimal()  # of a CSV file
    return [{"text": said, "answer_start": int(start) if digits else start}]
