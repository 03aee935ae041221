import cloudpickle
import numpy as np
import pytest

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows import pair_table, pairs
from jaxlm.data.rows.pairs import NEGATIVE
from jaxlm.errors import UserError

NO = np.zeros(50, bool)
VOCABULARY = Vocabulary(size=50, pad=0, unk=1, cls=2, sep=3, mask=4, special_V=NO, continues_V=NO)


class Shards:
    """Token (document, place) is document * 1000 + place: its origin can be read off."""

    fingerprint = "s"

    def __init__(self, sentences):
        self.sentences = [np.asarray(s, np.int32) for s in sentences]
        self.lengths = np.array([s.sum() for s in self.sentences], np.uint32)

    def __len__(self):
        return len(self.sentences)

    def __getitems__(self, ks):
        return [self[k] for k in ks]

    def __getitem__(self, k):
        return np.arange(self.lengths[k], dtype=np.int32) + 1000 * k

    def sentence_lengths(self, k):
        return self.sentences[k]


def corpus(documents, seed=0, most=30):
    rng = np.random.default_rng(seed)
    return Shards([rng.integers(1, 25, rng.integers(1, most)) for _ in range(documents)])


def make(
    shards,
    row_length=67,
    short_share=0.1,
    random_share=0.5,
    duplicates=1,
    seed=3,
    cache=None,
    negatives="random",
):
    return pairs.make_pairs(
        shards,
        VOCABULARY,
        row_length=row_length,
        short_share=short_share,
        negatives=negatives,
        negative_share=random_share,
        duplicates=duplicates,
        seed=seed,
        cache=cache,
    )


def published(sentences, most, short_share, random_share, rng):
    """The published loop, sentence by sentence: [(document_a, tokens_a, document_b, tokens_b, label)]."""
    made = []
    for d, document in enumerate(sentences):
        target = rng.integers(2, most, endpoint=True) if rng.random() < short_share else most
        chunk, i = [], 0
        while i < len(document):
            chunk.append(document[i])
            if i == len(document) - 1 or sum(chunk) >= target:
                a_end = 1 if len(chunk) < 2 else rng.integers(1, len(chunk) - 1, endpoint=True)
                a = sum(chunk[:a_end])
                random = len(chunk) == 1 or rng.random() < random_share
                other = d
                if random:
                    for _ in range(10):
                        other = rng.integers(len(sentences))
                        if other != d:
                            break
                    b = 0
                    for j in range(rng.integers(len(sentences[other])), len(sentences[other])):
                        b += sentences[other][j]
                        if b >= target - a:
                            break
                    i -= len(chunk) - a_end
                else:
                    b = sum(chunk[a_end:])
                while a + b > most:
                    if a > b:
                        a -= 1
                    else:
                        b -= 1
                made.append((d, a, other, b, int(random)))
                chunk = []
            i += 1
    return made


def test_the_statistics_are_those_of_the_published_loop():
    shards, rng = corpus(4000), np.random.default_rng(1)
    table = make(shards).table
    reference = np.array(published([s.tolist() for s in shards.sentences], 64, 0.1, 0.5, rng))
    assert abs(len(table) / len(reference) - 1) < 0.02
    size, expected = table["length_a"] + table["length_b"].astype(int), reference[:, 1] + reference[:, 3]
    error = 4 * np.sqrt(0.5 / len(table))  # four standard deviations of the difference of two shares
    assert abs(table["label"].mean() - reference[:, 4].mean()) < error
    for most in (8, 16, 32, 48, 63):
        assert abs((size <= most).mean() - (expected <= most).mean()) < error
        assert abs((table["length_a"] <= most).mean() - (reference[:, 1] <= most).mean()) < error
        assert abs((table["length_b"] <= most).mean() - (reference[:, 3] <= most).mean()) < error


def test_pairs_never_exceed_the_row_and_both_sides_have_tokens():
    for short in (0.0, 1.0):
        table = make(corpus(300), row_length=29, short_share=short).table
        assert (table["length_a"] + table["length_b"].astype(int)).max() <= 26
        assert table["length_a"].min() >= 1 and table["length_b"].min() >= 1


def test_a_next_sentence_follows_and_a_random_one_is_from_elsewhere():
    items = make(corpus(200), row_length=400, short_share=0.0)  # hardly ever truncated
    table = items.table
    follows = table[table["label"] == 0]
    whole = follows[follows["length_a"] + follows["length_b"].astype(int) < 397]
    assert len(whole) > 50
    assert (whole["document_a"] == whole["document_b"]).all()
    assert (whole["start_a"] + whole["length_a"] == whole["start_b"]).all()
    other = table[table["label"] == 1]
    assert (other["document_a"] != other["document_b"]).all()


def test_every_sentence_is_used_as_the_first_or_next_of_some_pair():
    shards = corpus(60, most=9)
    table = make(shards, row_length=2003, short_share=0.0).table
    used = [np.zeros(n, bool) for n in shards.lengths]
    for pair in table:
        used[pair["document_a"]][pair["start_a"] :][: pair["length_a"]] = True
        if pair["label"] == 0:
            used[pair["document_b"]][pair["start_b"] :][: pair["length_b"]] = True
    assert all(u.all() for u in used)


def test_a_document_of_one_sentence_is_paired_at_random():
    table = make(Shards([[7], [5], [9], [4]]), random_share=0.0).table
    assert len(table) == 4 and (table["label"] == 1).all()


def test_truncation_removes_one_by_one_from_the_longer_side():
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 90, 999), rng.integers(1, 90, 999)
    cut_a, cut_b = pair_table._cuts(a, b, 64)
    for x, y, cx, cy in zip(a, b, cut_a, cut_b, strict=True):
        left, right = x, y
        while left + right > 64:
            left, right = (left - 1, right) if left > right else (left, right - 1)
        assert (x - cx, y - cy) == (left, right)


def test_tokens_are_cut_from_both_ends_alike():
    shards = Shards([[30, 90]] * 800)
    table = make(shards, row_length=43, short_share=0.0, random_share=0.0).table
    assert len(table) == 800 and (table["length_a"] == 20).all() and (table["length_b"] == 20).all()
    np.testing.assert_allclose(
        table["start_a"].mean(), 10 / 2, atol=0.25
    )  # 10 tokens cut, half of them in front
    np.testing.assert_allclose(table["start_b"].mean(), 30 + 70 / 2, atol=0.6)


def test_a_piece_is_cls_a_sep_b_sep_with_types():
    items = make(corpus(40))
    for k in range(0, len(items.table), 7):
        pair, piece = items.table[k], items.pieces([(k, 0, int(items.lengths[k]))])[0]
        a, b = int(pair["length_a"]), int(pair["length_b"])
        first_a = 1000 * int(pair["document_a"]) + int(pair["start_a"])
        first_b = 1000 * int(pair["document_b"]) + int(pair["start_b"])
        expected = [2, *range(first_a, first_a + a), 3, *range(first_b, first_b + b), 3]
        assert piece.tokens.tolist() == expected
        assert piece.texts.tolist() == [0] * (a + 2) + [1] * (b + 1)
        assert piece.columns[NEGATIVE] == pair["label"]


def test_a_swapped_pair_is_two_consecutive_segments_of_one_document_in_the_other_order():
    table = make(corpus(300), row_length=400, short_share=0.1, negatives="swapped").table
    assert abs(table["label"].mean() - 0.5) < 0.05
    assert (table["document_a"] == table["document_b"]).all()
    whole = table[table["length_a"] + table["length_b"].astype(int) < 397]
    for label, first, second in ((0, "a", "b"), (1, "b", "a")):
        rows = whole[whole["label"] == label]
        assert len(rows) > 50
        assert (rows[f"start_{first}"] + rows[f"length_{first}"] == rows[f"start_{second}"]).all()


def test_in_order_or_swapped_segments_have_one_distribution_of_lengths():
    table = make(corpus(4000), negatives="swapped").table
    in_order, swapped = (table[table["label"] == label] for label in (0, 1))
    for name in ("length_a", "length_b"):
        assert (
            abs(in_order[name].mean() - swapped["length_b" if name == "length_a" else "length_a"].mean())
            < 0.5
        )


def test_every_sentence_stands_in_one_swapped_or_ordered_pair_unless_it_is_left_alone_at_the_end():
    shards = corpus(60, most=9)
    table = make(shards, row_length=2003, short_share=0.0, negatives="swapped").table
    used = [np.zeros(n, int) for n in shards.lengths]
    for pair in table:
        for side in "ab":
            used[pair[f"document_{side}"]][pair[f"start_{side}"] :][: pair[f"length_{side}"]] += 1
    for sentences, times in zip(shards.sentences, used, strict=True):
        assert (times == (len(sentences) > 1)).all()


def test_a_sentence_longer_than_the_target_takes_the_next_one_as_its_partner():
    table = make(Shards([[70, 80, 90]]), short_share=0.0, negatives="swapped").table
    assert len(table) == 1, "the third sentence is left alone"
    assert table["length_a"][0] == table["length_b"][0] == 32


def test_a_corpus_of_single_sentences_has_no_order():
    with pytest.raises(UserError, match="no document with two"):
        make(Shards([[7], [5]]), negatives="swapped")


class Unreadable(Shards):
    def sentence_lengths(self, k):
        raise AssertionError("read although the table is there")


def test_a_table_that_was_made_is_found_without_reading_sentences(tmp_path):
    made = make(corpus(40), cache=Cache(tmp_path))
    again = make(Unreadable(corpus(40).sentences), cache=Cache(tmp_path))
    assert np.array_equal(made.table, again.table)


def test_duplicates_have_other_draws_and_seeds_decide_them():
    shards = corpus(100)
    one, two, again, other = (make(shards, duplicates=d, seed=s) for d, s in ((1, 3), (2, 3), (2, 3), (2, 4)))
    first, second = two.table[: len(one.table)], two.table[len(one.table) :]
    assert np.array_equal(first, one.table) and not np.array_equal(first[: len(second)], second[: len(first)])
    assert np.array_equal(two.table, again.table) and two.fingerprint == again.fingerprint
    assert not np.array_equal(two.table, other.table) and two.fingerprint != other.fingerprint


def test_a_cached_table_equals_the_one_in_memory_and_travels_as_a_path(tmp_path):
    shards = corpus(500)
    cached, memory = make(shards, duplicates=3, cache=Cache(tmp_path)), make(shards, duplicates=3)
    assert isinstance(cached.table, np.memmap)
    assert np.array_equal(cached.table, memory.table) and np.array_equal(cached.lengths, memory.lengths)
    assert (
        cached.fingerprint
        == memory.fingerprint
        == make(shards, duplicates=3, cache=Cache(tmp_path)).fingerprint
    )
    cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    travelled = cloudpickle.dumps(cached)
    assert len(travelled) < len(cloudpickle.dumps(memory)) - 15 * len(memory.table)
    assert cloudpickle.loads(travelled).pieces([(5, 0, int(cached.lengths[5]))])[0].tokens[0] == 2


def test_empty_documents_and_sentences_are_skipped():
    table = make(Shards([[0, 3, 0, 4], [], [0], [5, 6]])).table
    assert set(table["document_a"].tolist()) <= {0, 3}
    assert table["length_a"].min() >= 1 and table["length_b"].min() >= 1


def test_a_corpus_without_pairs_is_a_user_error():
    with pytest.raises(UserError, match="no sentence"):
        make(Shards([[], [0]]))
    with pytest.raises(UserError, match="pairs of 2 tokens"):
        make(corpus(3), row_length=5)
