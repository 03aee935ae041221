"""Columns of records in the items of every kind that stands for one, and in the rows filled with them."""

import pickle

import numpy as np
import pytest

from jaxlm.cached import Cache
from jaxlm.data.corpus.columns import Label, Number, Spans
from jaxlm.data.rows import documents, mixture, packing, texts, translations
from jaxlm.data.rows.rows import Rows
from jaxlm.errors import UserError
from tests.data.test_spans import TOWNS, about, opened, run

NAMES = ("genre", "score", "entities")
COLUMNS = (Label(field="genre"), Number(field="score"), Spans(field="entities", text="text"))


def records(genres=("news", "novel")):
    return [
        {**about(i), "question": f"Where in {i}? And why?", "genre": genres[i % 2], "score": i / 4}
        for i in range(80)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return run(tmp_path_factory.mktemp("fields"), records(), COLUMNS, text_fields=("question", "text"))


def items(kind, made, columns=NAMES, cache=None):
    train, vocabulary = opened(made), made.tokenizer.vocabulary
    one = {"unit": kind, "texts": 2 if kind == "fields" else 1, "max_tokens": 9, "cache": cache}
    return {
        "whole": lambda: documents.Documents(train, vocabulary, columns),
        "passages": lambda: documents.Passages(train, vocabulary, 1, columns),
        "translations": lambda: translations.make_translations(
            train, vocabulary, max_tokens=60, cache=cache, columns=columns
        ),
    }.get(kind, lambda: texts.make_texts(train, vocabulary, columns=columns, **one))()


KINDS = ["whole", "passages", "translations", "documents", "sentences", "fields"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_columns_of_the_records_whose_tokens_it_has(made, kind, tmp_path):
    train, vocabulary = opened(made), made.tokenizer.vocabulary
    found = pickle.loads(pickle.dumps(items(kind, made, cache=Cache(tmp_path, lambda _: None))))
    plan = packing.plan(found, row_length=128, method="best_fit", max_items=9, seed=0, cache=None)
    rows = Rows(found, plan, vocabulary, seed=0, shuffle=False)
    towns, many = 0, 0
    for n in range(len(rows)):
        row = rows[n]
        for c, (item, *_) in enumerate(plan.pieces(n)):
            k = int(found.table["document"][item]) if hasattr(found, "table") else item
            assert row.of_items("genre")[c] == train.value("genre", k)
            assert row.of_items("score")[c] == train.value("score", k)
            at = row.segments_T == c + 1
            ids, values = row.tokens_T[at], row.of_tokens("entities")[at]
            special = vocabulary.special_V[ids]
            assert (values[special] == -1).all() and (values[~special] >= 0).all()
            for number in np.flatnonzero(values == 1):  # a LOC begins
                end = number + 1 + int((values[number + 1 :] != 2).argmax())
                towns += made.tokenizer.decode(ids[number:end].tolist()) in [t.lower() for t in TOWNS]
        used = len(plan.pieces(n))
        many = max(many, used)
        assert (row.of_items("genre")[used:] == -1).all() and (row.of_tokens("entities")[~(row.segments_T > 0)] == -1).all()  # fmt: skip
        assert row.of_items("score").dtype == np.float32 and row.of_tokens("entities").dtype == np.int32
    assert many > 1 and (towns > 30 or kind in ("documents", "fields")), "those are cut to nine tokens"


@pytest.mark.parametrize("kind", KINDS)
def test_without_columns_items_are_what_they_were(made, kind):
    plain, carrying = items(kind, made, ()), items(kind, made)
    place = [(0, 0, int(plain.lengths[0]))]
    (one,), (other,) = plain.pieces(place), carrying.pieces(place)
    assert np.array_equal(one.tokens, other.tokens) and np.array_equal(one.texts, other.texts)
    assert (
        other.columns.keys() - one.columns.keys() == set(NAMES) and plain.fingerprint != carrying.fingerprint
    )


def test_a_column_that_rows_do_not_carry_is_named_and_padding_carries_all(made):
    found = items("whole", made, ("genre",))
    plan = packing.plan(found, row_length=128, method="none", max_items=1, seed=0, cache=None)
    rows = Rows(found, plan, made.tokenizer.vocabulary, seed=0, shuffle=False)
    with pytest.raises(UserError, match='column "score": these rows carry genre'):
        rows[0].of_items("score")
    with pytest.raises(UserError, match='column "genre".*128 values a row'):
        rows[0].of_tokens("genre")
    assert (rows.empty().of_items("any") == -1).all() and rows.empty().of_tokens("any").shape == (128,)
    with pytest.raises(UserError, match=r"no genus.*data\.columns"):
        items("whole", made, ("genus",)).pieces([(0, 0, 1)])


def test_the_corpora_of_a_mixture_together(made, tmp_path):
    other = run(tmp_path, records(("news", "poem")), COLUMNS, text_fields=("question", "text"))
    one, two = opened(made), opened(other)
    both = mixture.joined([one, two])
    for name in NAMES:
        assert np.array_equal(both.value(name, len(one) + 3), two.value(name, 3))
        assert np.array_equal(both.value(name, len(one) - 1), one.value(name, len(one) - 1))
    assert both.labels("entities") == ("LOC", "PER")
    with pytest.raises(UserError, match=r"different labels in the column \"genre\".*novel.*poem"):
        both.labels("genre")
