"""Records as tokens. In: a tokenizer, records. Out: of each its ids, and what is known of its texts and tokens.

Known are "sentences" or "fields" (tokens of each), and "column_i" of a column of spans (see `spans.of_tokens`).
"""

import dataclasses
from collections.abc import Iterator
from typing import cast

import numpy as np

from jaxlm.data.corpus import answers, spans
from jaxlm.data.corpus.answers import Answers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record, Span
from jaxlm.data.shards import sentences
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokens import chat_template

Encoded = tuple[Record, np.ndarray, dict[str, np.ndarray]]


def encoded(
    tokens: Tokenizer, batch: list[Record], wanted: Wanted, with_sentences: bool
) -> Iterator[Encoded]:
    """Of every record of a batch, in order; of several texts, one without tokens makes an empty document."""
    if wanted.chat is not None:
        yield from _with_answers(tokens, batch, wanted)
    elif wanted.spans:
        yield from _with_spans(tokens, batch, wanted, with_sentences)
    elif len(wanted.texts) > 1:
        ids = iter(tokens.encode_batch([text for record in batch for text in record.texts]))
        for record in batch:
            yield _joined(record, [next(ids) for _ in record.texts])
    elif with_sentences:
        texts = [record.texts[0] for record in batch]
        for record, (ids, offsets) in zip(batch, tokens.encode_batch_with_offsets(texts), strict=True):
            yield record, ids, {"sentences": _sentences(record, offsets)}
    else:
        texts = [record.texts[0] for record in batch]
        yield from ((record, ids, {}) for record, ids in zip(batch, tokens.encode_batch(texts), strict=True))


def _with_spans(
    tokens: Tokenizer, batch: list[Record], wanted: Wanted, with_sentences: bool
) -> Iterator[Encoded]:
    """Texts with the offsets of their tokens, piece by piece."""
    pieces = [
        [
            places or ((0, len(text)),)
            for text, places in zip(r.texts, r.pieces or [()] * len(r.texts), strict=True)
        ]
        for r in batch
    ]
    flat = [
        text[start:end]
        for record, mine in zip(batch, pieces, strict=True)
        for text, places in zip(record.texts, mine, strict=True)
        for start, end in places
    ]
    made = iter(tokens.encode_batch_with_offsets(flat))
    for record, mine in zip(batch, pieces, strict=True):
        ids, offsets = [], []
        for places in mine:
            found = [(*next(made), start) for start, _ in places]
            ids.append(np.concatenate([one for one, _, _ in found]))
            offsets.append(np.concatenate([places + start for _, places, start in found]))
        known = {f"column_{i}": _spans(record, i, wanted, offsets) for i in wanted.spans}
        if len(ids) > 1:
            _, joined, fields = _joined(record, ids)
            yield record, joined, {**fields, **known}
        else:
            found = {"sentences": _sentences(record, offsets[0])} if with_sentences else {}
            yield record, ids[0], {**found, **known}


def _with_answers(tokens: Tokenizer, batch: list[Record], wanted: Wanted) -> Iterator[Encoded]:
    """Conversations as the template writes them; the spans of their column are the answers."""
    assert wanted.chat is not None and tokens.chat is not None, "there is a template: see prepare"
    i, _ = wanted.chat
    rendered = [
        [tokens.chat.answers(one.messages, after=one.given, where=record.where) for one in record.values[i]]  # pyright: ignore[reportGeneralTypeIssues]
        for record in batch
    ]
    made = iter(tokens.encode_marked_with_offsets([text for one in rendered for text, _ in one]))
    for record, written in zip(batch, rendered, strict=True):
        ids, marks, spans_ = [], [], []
        for text, said in written:
            found, offsets = next(made)
            named = [(start, end, chat_template.ANSWERS) for start, end in said]
            ids.append(found)
            marks.append(spans.of_tokens(named, text, offsets, f"{record.where}: the conversation"))
            spans_ += named
        values = tuple(tuple(spans_) if j == i else value for j, value in enumerate(record.values))
        known = {f"column_{i}": _one_label(np.concatenate(marks))}
        record = dataclasses.replace(record, values=values)
        if len(ids) > 1:
            _, joined, fields = _joined(record, ids)
            yield record, joined, {**fields, **known}
        else:
            yield record, ids[0], known


def _one_label(values: np.ndarray) -> np.ndarray:
    """Spans whose labels are all the first."""
    return np.where(values > 0, 2 - values % 2, 0).astype(np.int32)


def _spans(record: Record, i: int, wanted: Wanted, offsets: list[np.ndarray]) -> np.ndarray:
    """The values of all tokens of a record: 0 in its other texts."""
    text, column = wanted.spans[i]
    values = [np.zeros(len(places), np.int32) for places in offsets]
    who, said = f'{record.where}: field "{column.field}"', cast(tuple[Span, ...], record.values[i])
    if isinstance(column, Answers):
        values[text] = answers.of_tokens(said, offsets[text])
    else:
        values[text] = spans.of_tokens(said, record.texts[text], offsets[text], who)
    return np.concatenate(values)


def _joined(record: Record, ids: list[np.ndarray]) -> Encoded:
    lengths = np.array([len(one) for one in ids], np.int32)
    return record, np.concatenate(ids) if lengths.all() else ids[0][:0], {"fields": lengths}


def _sentences(record: Record, offsets: np.ndarray) -> np.ndarray:
    return sentences.token_lengths(sentences.starts(record.texts[0]), offsets[:, 1])
