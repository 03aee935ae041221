"""Columns of spans: parts of a text with a label each. In: values of records. Out: `Span`s of its characters, in order.

The shards keep one value a token, int32: 0 outside of all spans, 2 n + 1 where a span of label n begins, 2 n + 2 in the
rest of it. Labels are numbered as those of a `Label`. So a span is whole tokens, and no two of a column overlap.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jaxlm.data.corpus.record import Span
from jaxlm.errors import UserError


@dataclasses.dataclass(kw_only=True)
class Spans:
    """A list of {"start", "end", "label"}, or of [start, end, label]; or one such object. Characters, end excluded.

    Without a label, the name of the field is the label. If the object has a "text", that must be what stands there.
    """

    field: str  # the field of the record that holds them
    text: str  # the text field that it is about

    def check(self, texts: tuple[str, ...], where: str) -> None:
        """UserError unless it is about one of the texts."""
        _check_text(self, texts, where)

    def read(self, value: Any, text: str, where: str) -> tuple[Span, ...]:
        """The spans of a text as it stands in the record; UserError for what is none."""
        given = value if isinstance(value, list) else [value]
        return _in_order([self._span(one, text, where) for one in given], text, self.field, where)

    def _span(self, given: Any, text: str, where: str) -> Span:
        start: Any
        end: Any
        if isinstance(given, dict):
            start, end, label = given.get("start"), given.get("end"), given.get("label", self.field)
        else:
            start, end, label = given if isinstance(given, list) and len(given) == 3 else (0, 0, "")
        quoted = given.get("text") if isinstance(given, dict) else None
        whole = type(start) is int and type(end) is int and 0 <= start < end <= len(text)
        named = isinstance(label, str | int) and str(label).strip()
        if not (whole and named and text[start:end].strip()):
            raise UserError(
                f'{where}: field "{self.field}" has the span {given!r:.80}; allowed are {{"start", "end", "label"}} '
                f'and [start, end, label] with 0 <= start < end <= {len(text)}, the characters of "{self.text}". '
                "Repair or remove the record."
            )
        if quoted not in (None, text[start:end]):
            raise UserError(
                f'{where}: field "{self.field}" has the span {given!r:.80}, but {text[start:end]!r:.80} stands there. '
                "Offsets count characters (not bytes) of the text as it is in the record. Repair or remove the record."
            )
        return start, end, str(label).strip()


@dataclasses.dataclass(kw_only=True)
class Tags:
    """A tag for every word of a text that is a list of words, as in the files of CoNLL.

    With `between=""` every word is tokenised by itself, so that it is whole tokens. scheme: "bio": B-PER, I-PER, O (an
    I-PER that continues no PER begins one, as conlleval has it); "words": every word is a span of its own, as with
    parts of speech.
    """

    field: str  # the field of the record that holds them
    text: str  # the field of the words
    between: str  # what stands between two words in the text: " ", or "" in Chinese
    scheme: Literal["bio", "words"]  # bio: B-PER, I-PER, O; words: every word is a span

    def check(self, texts: tuple[str, ...], where: str) -> None:
        """UserError unless the words are one of the texts, and the scheme is known."""
        _check_text(self, texts, where)
        if self.scheme not in ("bio", "words"):
            raise UserError(f'{where}.scheme={self.scheme!r}: allowed are "bio" and "words".')

    def join(self, words: Any, where: str) -> str:
        """The text of the words; UserError for what is no list of words."""
        return self.between.join(self._words(words, where))

    def pieces(self, words: Any, where: str) -> tuple[tuple[int, int], ...]:
        """Where the words stand, if nothing is between them."""
        return () if self.between else _places(self._words(words, where), 0)

    def read(self, value: Any, words: Any, where: str) -> tuple[Span, ...]:
        """The spans of the joined text; UserError for tags that are none, or not as many as words."""
        places = _places(self._words(words, where), len(self.between))
        if not isinstance(value, list) or len(value) != len(places):
            found = f"{len(value)} tags" if isinstance(value, list) else repr(value)[:80]
            raise UserError(
                f'{where}: field "{self.field}" is {found}, and "{self.text}" has {len(places)} words; allowed is a '
                "list with a tag for each. Repair or remove the record."
            )
        spans: list[Span] = []
        for tag, (start, end) in zip(value, places, strict=True):
            begins, label = self._tag(tag, where)
            if label and not begins and spans and spans[-1][1:] == (start - len(self.between), label):
                spans[-1] = (spans[-1][0], end, label)
            elif label:
                spans.append((start, end, label))
        return tuple(spans)

    def _tag(self, tag: Any, where: str) -> tuple[bool, str]:
        """Whether it begins a span in any case, and its label; "" outside."""
        if self.scheme == "words" and isinstance(tag, str | int) and str(tag).strip():
            return True, str(tag).strip()
        if (
            self.scheme == "bio"
            and isinstance(tag, str)
            and (tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:]))
        ):
            return tag[0] == "B", tag[2:]
        allowed = '"O", "B-LABEL" and "I-LABEL"' if self.scheme == "bio" else "strings and whole numbers"
        raise UserError(
            f'{where}: field "{self.field}" has the tag {tag!r:.80}; with scheme="{self.scheme}" allowed are {allowed}'
            ". Repair or remove the record."
        )

    def _words(self, words: Any, where: str) -> list[str]:
        if isinstance(words, list) and words and all(isinstance(w, str) and w.strip() for w in words):
            return [whole(word.strip()) for word in words]
        raise UserError(
            f'{where}: field "{self.text}" is {words!r:.80}; it must be a list of words, none of them empty, since '
            f'"{self.field}" tags them. Repair or remove the record.'
        )


@dataclasses.dataclass(kw_only=True)
class Turns:
    """A conversation: a list of {"role", "content"}. Its field is a text field, too; a turn is a span of its role.

    Every turn is tokenised by itself, as it would be alone, and no token stands between two: `Messages` has those of a
    chat template.
    """

    field: str  # the field of the record that holds them

    @property
    def text(self) -> str:
        """Its own field."""
        return self.field

    def check(self, texts: tuple[str, ...], where: str) -> None:
        """UserError unless its field is one of the texts."""
        _check_text(self, texts, where)

    def join(self, turns: Any, where: str) -> str:
        """The contents, a line break between two; UserError for what is no conversation."""
        return "\n".join(content for _, content in self._turns(turns, where))

    def pieces(self, turns: Any, where: str) -> tuple[tuple[int, int], ...]:
        """Where every turn stands in the joined text."""
        return _places([content for _, content in self._turns(turns, where)], 1)

    def read(self, value: Any, turns: Any, where: str) -> tuple[Span, ...]:
        """The turns as spans of their roles."""
        roles = [role for role, _ in self._turns(turns, where)]
        return tuple((*place, role) for place, role in zip(self.pieces(turns, where), roles, strict=True))

    def _turns(self, turns: Any, where: str) -> list[tuple[str, str]]:
        found = []
        for turn in turns if isinstance(turns, list) else ():
            said = [turn.get(key) for key in ("role", "content")] if isinstance(turn, dict) else []
            stripped = [one.strip() for one in said if isinstance(one, str) and one.strip()]
            if len(stripped) < 2:
                raise self._wrong(turn, where)
            found.append((stripped[0], whole(stripped[1])))
        if not found:
            raise self._wrong(turns, where)
        return found

    def _wrong(self, value: Any, where: str) -> UserError:
        return UserError(
            f'{where}: field "{self.field}" has {value!r:.80}; it must be a list of {{"role": ..., "content": ...}}, '
            "each a text that is not empty. Repair or remove the record."
        )


SPANS = (Spans, Tags, Turns)


def whole(text: str) -> str:
    """Without half surrogate pairs, which JSON can spell and no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def of_tokens(spans: Sequence[Span], text: str, offsets: np.ndarray, who: str) -> np.ndarray:
    """int32 [tokens]: 0, or 2 i + 1 and 2 i + 2 of span i. `offsets` [tokens, 2]: the characters of every token.

    UserError, which begins with `who`, for a span that is not whole tokens.
    """
    values = np.zeros(len(offsets), np.int32)
    solid = np.array([*(not letter.isspace() for letter in text), False], bool)
    before = np.concatenate([[0], np.cumsum(solid)])  # without spaces, which belong to no token in particular
    begins, ends = before[offsets[:, 0]], before[offsets[:, 1]]
    for i, (start, end, label) in enumerate(spans):
        first, last = before[start], before[end]
        # Tokens of nothing but a space, or of nothing, count where they stand.
        within = (offsets[:, 0] >= start) & (offsets[:, 0] < end) & (offsets[:, 1] <= end)
        inside = np.flatnonzero(within | (ends > first) & (begins < last) & (ends > begins))
        if not len(inside) or begins[inside].min() < first or ends[inside].max() > last:
            near = text[slice(*(offsets[inside[0], 0], offsets[inside[-1], 1]))] if len(inside) else ""
            raise UserError(
                f'{who} has the span {start} to {end}, "{text[start:end]:.40}" ({label}), which is not whole tokens: '
                f"{f'those there are of {near!r:.60}' if near else 'there are none'}. Allowed are spans that begin and "
                "end with a token. Move it, use a tokenizer with smaller tokens, or remove the record."
            )
        values[inside[0] : inside[-1] + 1] = 2 * i + 2
        values[inside[0]] = 2 * i + 1
    return values


def numbered(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Values in which label n is called numbers[n] instead."""
    made, inside = values.copy(), values > 0
    made[inside] = 2 * numbers[(values[inside] - 1) // 2] + 2 - values[inside] % 2
    return made


def _places(parts: Sequence[str], between: int) -> tuple[tuple[int, int], ...]:
    """Where the parts stand when `between` characters separate two."""
    ends = np.cumsum([len(part) + between for part in parts]) - between
    return tuple((int(end) - len(part), int(end)) for end, part in zip(ends, parts, strict=True))


def _in_order(spans: list[Span], text: str, field: str, where: str) -> tuple[Span, ...]:
    """The spans in order, in characters of the stripped text; UserError where two overlap."""
    spans = sorted(spans)
    for one, other in itertools.pairwise(spans):
        if other[0] < one[1]:
            raise UserError(
                f'{where}: field "{field}" has the spans {one!r:.60} and {other!r:.60}, which overlap; allowed are '
                "spans that do not. Put them into two columns, or repair or remove the record."
            )
    front, length = len(text) - len(text.lstrip()), len(text.strip())
    return tuple((max(a - front, 0), min(b - front, length), label) for a, b, label in spans)


def _check_text(column: Any, texts: tuple[str, ...], where: str) -> None:
    if column.text not in texts:
        raise UserError(
            f'{where}: spans of "{column.text}", which is no text field. Fix: one of {", ".join(texts)}, or name it in '
            "text_field or text_fields."
        )
