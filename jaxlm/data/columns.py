"""What is read of a record besides its texts. In: config. Out: columns, which read a value and say what it may be.

A column is stored beside the shards, one value a document: `shards.array(field)`. The names of a `Label` are those of
the training split, sorted; its values are their numbers, int32. A `Number` is float32.
"""

import dataclasses
import math
from typing import Any

from jaxlm.errors import UserError

# Arrays of every folder of shards: no column may have such a name.
RESERVED = ("lengths", "fields", "sentences", "sentence_offsets")


@dataclasses.dataclass(kw_only=True)
class Label:
    """One of a few names, such as a class: a string, whole number or truth value of the record."""

    field: str

    def read(self, value: Any, where: str) -> str:
        """The name; UserError for anything else."""
        if isinstance(value, (str, int)) and str(value).strip():
            return str(value).strip()
        raise _wrong(self, value, where, "a label: a string, a whole number, or true and false")


@dataclasses.dataclass(kw_only=True)
class Number:
    """A finite number, such as a score."""

    field: str

    def read(self, value: Any, where: str) -> float:
        """The number; UserError for anything else."""
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) < 3.4e38:  # float32
            raise _wrong(self, value, where, "a finite number")
        return number


Column = Label | Number


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to read of every record, by name."""

    texts: tuple[str, ...]
    values: tuple[Column, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all fields, texts first."""
        return (*self.texts, *(column.field for column in self.values))

    def describe(self) -> dict[str, Any]:
        """As part of a corpus's identity."""
        texts = {"text_field": self.texts[0]} if len(self.texts) == 1 else {"text_fields": list(self.texts)}
        kinds = [[type(column).__name__, column.field] for column in self.values]
        return {**texts, **({"columns": kinds} if kinds else {})}


def check(columns: tuple[Any, ...], texts: tuple[str, ...], where: str) -> None:
    """UserError for what is no column, or a name twice."""
    used = [*RESERVED, *texts]
    for i, column in enumerate(columns):
        if not isinstance(column, Label | Number):
            raise UserError(
                f"{where}.columns[{i}]={column!r}: allowed are Label(field=...) and Number(field=...) of "
                "jaxlm.data.columns."
            )
        if not column.field or column.field in used:
            raise UserError(
                f'{where}.columns[{i}].field="{column.field}": the name of a field that is read as nothing else, and '
                f"none of {', '.join(RESERVED)}."
            )
        used.append(column.field)


def _wrong(column: Column, value: Any, where: str, allowed: str) -> UserError:
    return UserError(
        f'{where}: field "{column.field}" is {value!r:.80}; it must be {allowed}. Repair or remove the record.'
    )
