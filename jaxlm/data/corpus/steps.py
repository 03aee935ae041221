"""What is done to records before they are split and tokenised. In: a record. Out: the record, changed or not, or None.

A step is a keyword-only dataclass that derives from `Step`. Steps run one after another over a record, in worker
processes where there are any. Those of a recipe's own file, which a worker cannot import, run in the reading process.
"""

import dataclasses
import importlib.machinery
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from jaxlm.data.corpus.record import Record, Span
from jaxlm.errors import UserError

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]")
_SPACE = re.compile(r"[^\S\n]+")


class Step:
    """`apply` must depend on the record and the fields alone: prepared shards are found again by them."""

    version: ClassVar[int] = 1  # raise it when the same record gives another

    def validate(self, where: str) -> None:
        """UserError for fields that cannot work."""

    def apply(self, record: Record) -> Record | None:
        """The record, with as many texts and values as before; None drops it."""
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class Clean(Step):
    """Without control characters, and runs of spaces and tabs as one space; line breaks stay."""

    def apply(self, record: Record) -> Record:
        """The texts cleaned."""
        texts = (_SPACE.sub(" ", _CONTROL.sub("", text)) for text in record.texts)
        return dataclasses.replace(record, texts=tuple(texts))


@dataclasses.dataclass(kw_only=True)
class KeepLength(Step):
    """Documents whose number of characters is within bounds."""

    shortest: int  # characters
    longest: int  # characters

    def validate(self, where: str) -> None:
        """An interval."""
        if not 0 <= self.shortest <= self.longest:
            raise UserError(
                f"{where}: shortest={self.shortest}, longest={self.longest}: the first may not be negative, nor above "
                "the second."
            )

    def apply(self, record: Record) -> Record | None:
        """The record, or None."""
        return record if self.shortest <= record.characters <= self.longest else None


@dataclasses.dataclass(kw_only=True)
class MarkSpans(Step):
    """Markers around spans: `the [E1] light [/E1] falls`. The spans then begin and end with their markers."""

    labels: tuple[str, ...]  # of the spans that are marked; of a column of Spans without labels its name
    markers: tuple[str, ...]  # before and behind a span of the first label, of the second, ...

    def validate(self, where: str) -> None:
        """Two markers a label, none of them empty or twice."""
        found = {marker for marker in self.markers if marker.strip() == marker and marker}
        if len(found) != len(self.markers) or len(self.markers) != 2 * len(self.labels) or not found:
            raise UserError(
                f"{where}: labels={self.labels}, markers={self.markers}: two different markers for each label, without "
                "spaces around them, such as ('[E1]', '[/E1]', '[E2]', '[/E2]') for two."
            )

    def apply(self, record: Record) -> Record:
        """The marked record; one that is marked stays as it is. UserError for spans that overlap, or several texts."""
        text = record.texts[0]
        found: Any = [s for value in record.values if isinstance(value, tuple) for s in value]
        spans: list[Span] = sorted(found)
        if any(text.startswith(self._around(s)[0], s[0]) for s in spans if s[2] in self.labels):
            return record
        if any(b[0] < a[1] for a, b in itertools.pairwise(spans)) or len(record.texts) > 1:
            raise UserError(
                f"{record.where}: the spans {spans!r:.120} overlap, or there are several texts; marked are spans of one"
                " text that do not. Repair or remove the record."
            )
        made, at, moved = "", 0, {}
        for span in spans:
            (start, end, label), (before, behind) = span, self._around(span)
            made += text[at:start]
            if before:
                made = f"{made.rstrip()} ".lstrip()
            first, at = len(made), end
            made += f"{before} {text[start:end]} {behind}" if before else text[start:end]
            moved[span] = (first, len(made), label)
            if before:
                made, at = made + " ", end + len(text[end:]) - len(text[end:].lstrip())
        values: Any = tuple(tuple(moved[s] for s in v) if isinstance(v, tuple) else v for v in record.values)
        return dataclasses.replace(record, texts=((made + text[at:]).strip(),), values=values)

    def _around(self, span: tuple[int, int, str]) -> tuple[str, str]:
        if span[2] not in self.labels:
            return "", ""
        at = 2 * self.labels.index(span[2])
        return self.markers[at], self.markers[at + 1]


@dataclasses.dataclass(kw_only=True)
class Prefix(Step):
    """Words before the first text of a record, such as T5's "summarize: ", unless it begins with them."""

    text: str  # with the space behind it

    def validate(self, where: str) -> None:
        """Something to say."""
        if not self.text.strip():
            raise UserError(f"{where}.text={self.text!r} says nothing. Leave the step out.")

    def before(self, text: str) -> str:
        """The text with the prefix."""
        return text if text.startswith(self.text) else self.text + text

    def apply(self, record: Record) -> Record:
        """The record with it."""
        first, *others = record.texts
        return dataclasses.replace(record, texts=(self.before(first), *others))


COUNTED = ("kept", "changed", "dropped")


class Steps:
    """The steps of a corpus and their counts: of a whole pass over it, what every step kept, changed and dropped."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps = steps
        self.counts: list[dict[str, int]] = [dict.fromkeys(COUNTED, 0) for _ in steps]

    def run(self, records: Iterator[Record]) -> Iterator[Record]:
        """What is left of the records; a text that has become empty drops its record."""
        for record in records:
            left = self._applied(record) if self.steps else record
            if left is not None:
                yield left

    @property
    def portable(self) -> bool:
        """Whether there are any, and a worker process can import them all."""
        modules = {type(step).__module__.partition(".")[0] for step in self.steps}
        return bool(modules) and all(map(importlib.machinery.PathFinder.find_spec, modules))

    def taken(self, made: tuple[list[Record], list[dict[str, int]]]) -> list[Record]:
        """What `over` left of some records, once it is counted here."""
        for counts, more in zip(self.counts, made[1], strict=True):
            for name in counts:
                counts[name] += more[name]
        return made[0]

    def _applied(self, record: Record) -> Record | None:
        for step, counts in zip(self.steps, self.counts, strict=True):
            made = step.apply(record)
            if made is not None:
                texts = tuple(text.strip() for text in made.texts)
                made = dataclasses.replace(made, texts=texts, origin=record.origin, split=record.split)
                _check_spans(step, record, made)
            if made is None or not all(made.texts):
                counts["dropped"] += 1
                return None
            counts["kept" if made == record else "changed"] += 1
            record = made
        return record

    def report(self) -> list[dict[str, Any]]:
        """For the index."""
        return [
            {"step": type(step).__name__, **counts}
            for step, counts in zip(self.steps, self.counts, strict=True)
        ]


def over(steps: tuple[Step, ...], records: list[Record]) -> tuple[list[Record], list[dict[str, int]]]:
    """What the steps leave of some records, and their counts; runs in a worker."""
    done = Steps(steps)
    return list(done.run(iter(records))), done.counts


def _check_spans(step: Step, record: Record, made: Record) -> None:
    spans = any(isinstance(value, tuple) for value in made.values)
    if spans and made.texts != record.texts and made.values == record.values:
        raise UserError(
            f"{record.where}: the step {type(step).__name__} changed a text whose spans are characters of it, and did "
            "not move them. Fix: a step that changes no text, or gives `values` and `pieces` that fit the new one."
        )


def describe(steps: tuple[Step, ...]) -> list[Any]:
    """As part of a corpus's identity."""
    made = [[type(step).__qualname__, step.version, vars(step)] for step in steps]
    return json.loads(json.dumps(made, default=repr))  # as it is read back


def check(steps: tuple[Any, ...], where: str) -> None:
    """UserError for what is no step."""
    for i, step in enumerate(steps):
        if not (isinstance(step, Step) and dataclasses.is_dataclass(step)):
            raise UserError(
                f"{where}.steps[{i}]={step!r}: allowed are dataclasses that derive from "
                "jaxlm.data.corpus.steps.Step, such as Clean()."
            )
        step.validate(f"{where}.steps[{i}]")
