"""What is read of a record besides its texts. In: config. Out: columns, which read a value and say what it may be.

A column is stored beside the shards: `shards.value(field, k)`. Of a `Label` and a `Number` it is one value a document:
the number of the name among those of the training split, sorted, int32; or float32. Of `Labels` it is 1 or 0 for each
of these names. Columns of spans (`Spans`, `Tags`, `Turns`, `Answers`) have one a token, see `spans`, and so have
conversations (`Messages`, `Choice`): above 0 in an answer.
"""

import dataclasses
import math
from typing import Any

from jaxlm.data.corpus.answers import Answers
from jaxlm.data.corpus.chats import CHATS, NAMES, Choice, Messages
from jaxlm.data.corpus.spans import SPANS, Spans, Tags, Turns
from jaxlm.errors import UserError

# No column may have such a name: arrays of every folder of shards, and what kinds of items say of themselves.
RESERVED = (
    *("lengths", "fields", "sentences", "sentence_offsets", "token_offsets"),
    *("document_digests", "document_origins"),
    *("following token", "negative pair", "answer start", "answer end"),
)


@dataclasses.dataclass(kw_only=True)
class Label:
    """One of a few names, such as a class: a string, whole number or truth value of the record."""

    field: str  # the field of the record

    def read(self, value: Any, where: str) -> str:
        """The name; UserError for anything else."""
        if isinstance(value, (str, int)) and str(value).strip():
            return str(value).strip()
        raise _wrong(self, value, where, "a label: a string, a whole number, or true and false")


@dataclasses.dataclass(kw_only=True)
class Labels:
    """Any number of names: a list of labels, or a string of them."""

    field: str  # the field of the record
    separator: str  # between two names where they are one string: "joy|surprise"

    def read(self, value: Any, where: str) -> list[str]:
        """The names, sorted, each once; none of an empty list or string. UserError for anything else."""
        given = value
        if isinstance(value, str):
            given = [name for name in value.split(self.separator) if name.strip()]
        if isinstance(given, list) and all(isinstance(n, str | int) and str(n).strip() for n in given):
            return sorted({str(name).strip() for name in given})
        allowed = f'a list of labels, or a string of them with "{self.separator}" between two'
        raise _wrong(self, value, where, allowed)


@dataclasses.dataclass(kw_only=True)
class Number:
    """A finite number, such as a score."""

    field: str  # the field of the record

    def read(self, value: Any, where: str) -> float:
        """The number; UserError for anything else."""
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) < 3.4e38:  # float32
            raise _wrong(self, value, where, "a finite number")
        return number


Column = Label | Labels | Number | Spans | Tags | Turns | Answers | Messages | Choice
_MARKING = (*SPANS, Answers)  # mark parts of a text
OF_TOKENS = (*_MARKING, *CHATS)  # with a value for every token


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to read of every record, by name."""

    texts: tuple[str, ...]
    values: tuple[Column, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all fields, texts first; the field of a conversation is both."""
        return tuple(dict.fromkeys((*self.texts, *(column.field for column in self.values))))

    @property
    def known(self) -> tuple[str, ...]:
        """The names by which a table is told from its header."""
        return self.names if self.chat is None else (*self.names, *NAMES)

    @property
    def chat(self) -> tuple[int, Messages | Choice] | None:
        """The column of conversations and its number; its texts are all there are."""
        return next(((i, c) for i, c in enumerate(self.values) if isinstance(c, CHATS)), None)

    @property
    def spans(self) -> dict[int, tuple[int, Spans | Tags | Turns | Answers]]:
        """Of every column of spans: its number -> (number of its text, the column)."""
        found = enumerate(self.values)
        return {i: (self.texts.index(c.text), c) for i, c in found if isinstance(c, _MARKING)}

    @property
    def grouped_by(self) -> str:
        """The field whose equal texts are held out together, or none of them would be new: what questions are about.
        "": records stand for themselves."""
        return next((column.text for column in self.values if isinstance(column, Answers)), "")

    def lists(self, text: str) -> list[Tags | Turns]:
        """The columns whose text is a list of words or turns."""
        return [column for column in self.values if isinstance(column, Tags | Turns) and column.text == text]

    def describe(self) -> dict[str, Any]:
        """As part of a corpus's identity."""
        texts = {"text_field": self.texts[0]} if len(self.texts) == 1 else {"text_fields": list(self.texts)}
        kinds = [[type(column).__name__, *vars(column).values()] for column in self.values]
        return {**texts, **({"columns": kinds} if kinds else {})}


def check(columns: tuple[Any, ...], texts: tuple[str, ...], where: str) -> None:
    """UserError for what is no column, a name twice, or spans of a text that is none."""
    used = [*RESERVED, *texts]
    for i, column in enumerate(columns):
        if not isinstance(column, Column):
            raise UserError(
                f"{where}.columns[{i}]={column!r}: allowed are Label(field=...), Number(field=...), Labels, Spans, "
                "Tags, Turns, Answers, Messages and Choice of jaxlm.data.corpus.columns."
            )
        if isinstance(column, Labels) and not column.separator:
            raise UserError(
                f'{where}.columns[{i}].separator="": what stands between two labels, such as "|".'
            )
        if isinstance(column, OF_TOKENS):
            column.check(texts, f"{where}.columns[{i}]")
        own = (
            (column.field,) if isinstance(column, Turns | Messages) and used.count(column.field) == 1 else ()
        )
        if not column.field or (column.field in used and column.field not in own):
            raise UserError(
                f'{where}.columns[{i}].field="{column.field}": the name of a field that is read as nothing else, and '
                f"none of {', '.join(RESERVED)}."
            )
        used.append(column.field)
    of_tokens = [column for column in columns if isinstance(column, OF_TOKENS)]
    if len(of_tokens) > 1 and any(isinstance(column, CHATS) for column in of_tokens):
        raise UserError(
            f"{where}.columns: a template writes conversations anew, so no other column marks parts of their text. "
            f"Fix: one of {', '.join(column.field for column in of_tokens)}."
        )


def _wrong(column: Column, value: Any, where: str, allowed: str) -> UserError:
    return UserError(
        f'{where}: field "{column.field}" is {value!r:.80}; it must be {allowed}. Repair or remove the record.'
    )
