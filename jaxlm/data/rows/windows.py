"""Windows over a context, each behind its question: `[CLS] question [SEP] part of the context [SEP]`. In: shards of
records of two texts with a column of answers. Out: Items, which carry where in each the answer is.

Of a tokenizer without [CLS] and [SEP], bos and eos stand in their places (`Vocabulary.marks`). Parts are as long as
fits and share `overlap` tokens with the next, as transformers' tokenizers overflow with a stride.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows.items import CHUNK, Piece, Place, Shards, digest, read
from jaxlm.data.rows.table_items import TableItems
from jaxlm.errors import UserError

# Part of every fingerprint: raise it when the same input makes other items.
VERSION = 1
START, END = (
    "answer start",
    "answer end",
)  # columns of the pieces: places within one, 0 where there is no answer
_TABLE = [("document", np.uint32), ("question", np.uint16), ("start", np.uint32), ("length", np.uint16)]


def context(vocabulary: Vocabulary, question: int) -> int:
    """Place in a window of the context's first token, given the tokens of the question."""
    return vocabulary.overhead(1, 2) - len(vocabulary.marks[1]) + question


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """How a question and its context become windows."""

    tokens: int  # of a window, special tokens included
    overlap: int  # of the context, between a window and the next
    question_tokens: int  # of a question at most; its end is cut off
    # Special tokens of a window beyond two: those between question and context where one stands at either end
    separators: int

    @property
    def special(self) -> int:
        """Special tokens of a window."""
        return 2 + self.separators

    def parts(self, question: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of records with so many tokens each [R]: record, tokens of the question, and first token of the context and
        number of them, of every window [W], in order."""
        question = np.minimum(question.astype(np.int64), self.question_tokens)
        room, context = self.tokens - self.special - question, context.astype(np.int64)
        number = 1 + -(-np.maximum(context - room, 0) // (room - self.overlap))
        which = np.repeat(np.arange(len(number)), number)
        nth = np.arange(len(which)) - np.repeat(np.cumsum(number) - number, number)
        start = nth * (room - self.overlap)[which]
        return which, question[which], start, np.minimum(room[which], context[which] - start)


class Windows(TableItems):
    """Rows of the table: document, tokens of its question, first token of the part within the context, and number."""

    @property
    def overhead(self) -> int:
        """[CLS], [SEP] between the two, and behind."""
        return self.vocabulary.overhead(1, 2)

    def tokens(self, block: np.ndarray) -> np.ndarray:
        """Tokens of question and part."""
        return block["question"] + block["length"].astype(np.uint32)

    def documents(self, place: Place) -> list[Place]:
        """The question, and the part of the context."""
        document, question, first, length = self._row(place)
        return [(document, 0, question), (document, first, length)]

    def pieces(self, places: Sequence[Place]) -> list[Piece]:
        """[CLS] question [SEP] part [SEP]; a place is always a whole item."""
        wanted = [self._row(place) for place in places]
        documents = read(self.shards, (document for document, *_ in wanted))
        return [self._piece(documents[row[0]], *row) for row in wanted]

    def _row(self, place: Place) -> tuple[int, int, int, int]:
        """Document, tokens of its question, first token of the part within the document, number of them."""
        row = self.table[place[0]]
        document = int(row["document"])
        whole = int(self.shards.array("fields")[document, 0])
        return document, int(row["question"]), whole + int(row["start"]), int(row["length"])

    def _piece(self, tokens: np.ndarray, document: int, question: int, first: int, length: int) -> Piece:
        ids = self.vocabulary.framed(tokens[:question], tokens[first : first + length])
        begin, end = self.vocabulary.marks
        texts = (np.arange(len(ids)) >= len(begin) + question + len(end)).astype(np.int32)
        places = np.flatnonzero(self.shards.value(self.carried.names[0], document) > 0)
        start = end = 0
        if len(places) and first <= places[0] and places[-1] < first + length:
            front = context(self.vocabulary, question) - first
            start, end = int(places[0]) + front, int(places[-1]) + front
        return Piece(ids, texts, {START: np.array(start, np.int32), END: np.array(end, np.int32)})


def make_windows(
    shards: Shards, vocabulary: Vocabulary, cut: Cut, *, column: str, none: bool, cache: Cache | None
) -> Windows:
    """The windows of a split, made now or found under `cache`. `none`: whether a question may have no answer.

    UserError for records that are not a question and a context, in this order, and for answers that are missing.
    """
    fingerprint = digest("windows", VERSION, shards.fingerprint, cut, column, none)

    def blocks() -> Iterator[np.ndarray]:
        fields = shards.array("fields")
        if fields.shape[1] != 2:
            raise UserError(
                f"records of {fields.shape[1]} texts where question and context are asked for. Fix: "
                "--config.data.text_fields=\"('question', 'context')\"."
            )
        several = 0
        for at in range(0, len(fields), CHUNK):
            for k in range(at, min(at + CHUNK, len(fields))):
                _check(shards.value(column, k), int(fields[k, 0]), k, none)
            which, question, start, length = cut.parts(fields[at : at + CHUNK, 0], fields[at : at + CHUNK, 1])
            table = np.empty(len(which), np.dtype(_TABLE))
            table["document"], table["question"] = which + at, question
            table["start"], table["length"] = start, length
            several += int((np.bincount(which) > 1).sum())
            yield table
        if cache is not None and several:
            cache.say(
                f"  windows            the contexts of {several:,} of {len(fields):,} questions are longer than a "
                f"window of {cut.tokens} tokens and read in several, which share {cut.overlap}"
            )

    return Windows.find_or_make(shards, vocabulary, fingerprint, cache, blocks, (column,))


def _check(values: np.ndarray, question: int, k: int, none: bool) -> None:
    places = np.flatnonzero(values > 0)
    if not len(places) and not none:
        raise UserError(
            f"question {k + 1:,} of the split has no answer in its context. Fix: --config.objective.no_answer=True, "
            "so that the model may say so, too; or remove such questions."
        )
    if len(places) and places[0] < question:
        raise UserError(
            "the answers stand in the first text of a record, where the question should be. Fix: "
            "--config.data.text_fields with the question first, the context second."
        )
