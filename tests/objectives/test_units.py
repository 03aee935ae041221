"""N-grams and phrases as units of masked LM: sizes as published, nothing crosses a segment, the lexicon is the mined one."""

import itertools
import math

import numpy as np
import pytest

from jaxlm.batch import Row, Vocabulary
from jaxlm.cached import Cache
from jaxlm.errors import UserError
from jaxlm.objectives import phrases, units
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.phrases import Phrases

V, CLS, SEP = 97, 2, 3
SPECIAL = np.zeros(V, bool)
SPECIAL[[0, CLS, SEP, 4]] = True
CONTINUES = np.arange(V) % 5 == 0
VOCABULARY = Vocabulary(
    size=V, pad=0, unk=1, cls=CLS, sep=SEP, mask=4, special_V=SPECIAL, continues_V=CONTINUES & ~SPECIAL
)


def make_row(sizes, length=307, seed=0, tokens=None):
    rng = np.random.default_rng(seed)
    row = Row(**{f"{n}_T": np.zeros(length, np.int32) for n in ("tokens", "segments", "positions", "texts")},
              first_C=np.zeros(9, np.int32))  # fmt: skip
    at = 0
    for c, size in enumerate(sizes):
        inner = rng.integers(5, V, size) if tokens is None else tokens[c]
        row.tokens_T[at : at + size + 2] = [CLS, *inner, SEP]
        row.segments_T[at : at + size + 2] = c + 1
        at += size + 2
    return row


def runs(chosen):
    """Lengths of maximal runs of neighbouring positions."""
    return [len(list(g)) for _, g in itertools.groupby(enumerate(chosen.tolist()), lambda x: x[1] - x[0])]


def test_ngram_lengths_are_one_over_n_as_in_albert():
    row, counts = make_row((300,)), np.zeros(4)
    for seed in range(1500):
        # few n-grams a row: they rarely touch
        counts += np.bincount(
            runs(
                units.Ngrams(longest=3, of="tokens").choose(row, VOCABULARY, 4, np.random.default_rng(seed))
            ),
            minlength=9,
        )[:4]
    first = []
    for seed in range(3000):
        chosen = units.Ngrams(longest=3, of="tokens").choose(row, VOCABULARY, 3, np.random.default_rng(seed))
        if len(runs(chosen)) == 1:
            first.append(3)
        else:
            first.append(max(runs(chosen)))
    # Of 3 tokens: one trigram (p 2/11), else a bigram and a single (p 6/11 * 3/11 ... ) or singles.
    inverse = np.array([1, 1 / 2, 1 / 3]) / (11 / 6)
    alone = inverse[2] + inverse[0] * inverse[0] * 0  # a run of 3 is a trigram, or rarely neighbours
    assert abs(np.mean(np.array(first) == 3) - alone) < 4 * math.sqrt(alone * (1 - alone) / 3000) + 0.03
    assert counts[1] > counts[2] > counts[3] > 0


@pytest.mark.parametrize("of", ["tokens", "words"])
def test_ngrams_stay_inside_segments_and_whole_words(of):
    for seed in range(60):
        row = make_row((40, 7, 31), seed=seed)
        chosen = units.Ngrams(longest=3, of=of).choose(row, VOCABULARY, 23, np.random.default_rng(seed))
        assert len(set(chosen.tolist())) == len(chosen) <= 23 and len(chosen) >= 20
        assert not SPECIAL[row.tokens_T[chosen]].any() and (np.diff(chosen) > 0).all()
        if of == "words":
            inside = set(chosen.tolist())
            for t in range(1, len(row.tokens_T)):
                joined = CONTINUES[row.tokens_T[t]] and not SPECIAL[row.tokens_T[[t - 1, t]]].any()
                assert not joined or (t in inside) == (t - 1 in inside)


class Shards:
    """Random documents in which 'a b' and 'a b c' occur far more often than by chance."""

    fingerprint = "made-up-documents-for-phrases"

    def __init__(self):
        rng = np.random.default_rng(3)
        self.documents = []
        for _ in range(300):
            tokens = rng.integers(40, V, 50)
            tokens[CONTINUES[tokens]] += 1
            for phrase in ((11, 12), (21, 22, 23), (13, 20)):
                if rng.random() < 0.8:
                    at = int(rng.integers(0, 40))
                    tokens[at : at + len(phrase)] = phrase
            self.documents.append(tokens.astype(np.int32))
        self.lengths = np.array([len(d) for d in self.documents], np.uint32)

    def __getitems__(self, ks):
        return [self.documents[k] for k in ks]


def test_the_lexicon_is_that_of_the_highest_t_statistics():
    shards = Shards()
    counts, tokens, bigrams = {}, {}, {}
    for document in shards.documents:
        for t in document.tolist():
            tokens[t] = tokens.get(t, 0) + 1
        for pair in itertools.pairwise(document.tolist()):
            bigrams[pair] = bigrams.get(pair, 0) + 1
    total, n = sum(tokens.values()), sum(bigrams.values())
    for (a, b), times in bigrams.items():
        p = times / n
        if times >= phrases.LEAST_COUNT and not CONTINUES[a] and not SPECIAL[a]:
            counts[a, b] = (p - tokens[a] * tokens[b] / total**2) / math.sqrt(p * (1 - p) / n)
    best = sorted(counts, key=lambda pair: -counts[pair])[:4]
    assert {(11, 12), (21, 22), (22, 23), (13, 20)} == set(best)
    mined = phrases._decode(phrases.mine(shards, VOCABULARY, 2, 4), 2)
    assert set(map(tuple, mined.tolist())) == set(best)
    trigrams = phrases._decode(phrases.mine(shards, VOCABULARY, 3, 1), 3)
    assert trigrams.tolist() == [[21, 22, 23]]


def test_phrases_are_mined_once_and_hidden_whole(tmp_path, monkeypatch):
    unit = Phrases(token_share=0.0, word_share=0.0, sizes=(4, 1))
    objective = MaskedLM(rate=0.3, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=unit)
    fitted = objective.fit(Shards(), VOCABULARY, Cache(tmp_path))
    monkeypatch.setattr(phrases, "mine", None)  # a second start finds the lexicon
    assert objective.fit(Shards(), VOCABULARY, Cache(tmp_path)) == fitted != objective
    inner = [[58, 51, 21, 22, 23, 52, 11, 12, 53, 13, 20, 54, 21, 22, 56]]
    row, seen = make_row((15,), length=31, tokens=inner), set()
    groups = [
        {3, 4, 5},
        {7, 8},
        {10, 11},
        {13, 14},
    ]  # positions, [CLS] at 0; a phrase may end in a continuing piece
    for seed in range(200):
        chosen = set(fitted.unit.choose(row, VOCABULARY, 3, np.random.default_rng(seed)).tolist())
        for group in groups:
            assert group <= chosen or not group & chosen
            seen |= {tuple(sorted(group))} if group <= chosen else set()
    assert len(seen) == 4


def test_levels_are_mixed_by_their_shares(tmp_path):
    base = Phrases(token_share=0.5, word_share=0.2, sizes=(4, 1)).fit(Shards(), VOCABULARY, Cache(tmp_path))
    row = make_row((9,), length=31, tokens=[[21, 22, 23] * 3])
    sizes = [len(base.choose(row, VOCABULARY, 3, np.random.default_rng(seed))) for seed in range(50)]
    assert set(sizes) == {3}
    whole = [
        sorted(base.choose(row, VOCABULARY, 3, np.random.default_rng(seed)).tolist())
        in ([1, 2, 3], [4, 5, 6], [7, 8, 9])
        for seed in range(2000)
    ]
    assert (
        abs(np.mean(whole) - 0.33) < 0.06
    )  # the first place is a phrase in 0.3; three tokens may be one by chance


def test_settings_that_cannot_work_are_user_errors(tmp_path):
    for unit, message in [
        (units.Ngrams(longest=0, of="words"), "unit.longest=0"),
        (Phrases(token_share=0.8, word_share=0.4, sizes=(5,)), "add up to at most 1"),
        (Phrases(token_share=0.1, word_share=0.4, sizes=()), "sizes"),
        (
            Phrases(token_share=0.1, word_share=0.4, sizes=(5,), file="/nowhere.npz"),
            "/nowhere.npz: no such file",
        ),
    ]:
        with pytest.raises(UserError, match=message):
            unit.validate("objective.unit")
    np.savez(tmp_path / "good.npz", **{"2": np.arange(99)})
    flipped = bytearray((tmp_path / "good.npz").read_bytes())
    flipped[len(flipped) // 2] ^= 4
    for number, content in enumerate((b"no", b"", bytes(flipped), bytes(flipped[:-9]))):
        bad = tmp_path / f"bad{number}.npz"
        bad.write_bytes(content)
        with pytest.raises(UserError, match="bad..npz: cannot be read"):
            Phrases(token_share=0.1, word_share=0.4, sizes=(5,), file=str(bad)).fit(None, VOCABULARY, None)
