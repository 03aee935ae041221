"""Claims about pairs for translation: both sides fit their rows, whatever their lengths; what is left out; .tsv."""

import gzip

import cloudpickle
import numpy as np
import pytest

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data import pipeline
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.rows import translations
from jaxlm.data.shards import prepare, shards
from jaxlm.data.tokenizer import Bpe
from jaxlm.errors import UserError
from jaxlm.objectives.translation import Translation

NO = np.zeros(50, bool)
VOCABULARY = Vocabulary(size=50, pad=0, unk=1, eos=2, special_V=NO, continues_V=NO)
OBJECTIVE = Translation(z_loss=0.0, label_smoothing=0.1, decoder_start="pad", pairs_per_row=9)


class Shards:
    """Token (document, place) is document * 1000 + place."""

    fingerprint = "s"

    def __init__(self, sentences):
        self.sentences = [np.asarray(s, np.int32) for s in sentences]
        self.lengths = np.array([s.sum() for s in self.sentences], np.uint32)

    def __len__(self):
        return len(self.sentences)

    def __getitems__(self, ks):
        return [np.arange(self.lengths[k], dtype=np.int32) + 1000 * k for k in ks]

    def sentence_lengths(self, k):
        return self.sentences[k]

    def array(self, name):
        assert name == "fields"
        return np.array(self.sentences, np.uint32)


def make(sentences, max_tokens=7):
    return translations.make_translations(Shards(sentences), VOCABULARY, max_tokens=max_tokens, cache=None)


def test_an_item_is_source_and_target_and_costs_twice_the_longer():
    items = make([[3, 5], [7, 1]])
    assert items.lengths.tolist() == [10, 14] and items.overhead == 2
    first, second = cloudpickle.loads(cloudpickle.dumps(items)).pieces([(0, 0, 10), (1, 0, 14)])
    assert first.tokens.tolist() == list(range(8)) and first.texts.tolist() == [0] * 3 + [1] * 5
    assert second.tokens.tolist() == list(range(1000, 1008)) and second.texts.tolist() == [0] * 7 + [1]


def test_pairs_that_do_not_fit_are_left_out():
    items = make([[3, 8], [2, 2], [9, 1]])
    assert items.table["document"].tolist() == [1]
    with pytest.raises(UserError, match="no pair of the split fits: 1 pairs.* 8 tokens, 7 fit"):
        make([[3, 8]])


@pytest.mark.parametrize("sentences", [[[3, 2, 4], [2, 2, 1]], [[3], [4]]])
def test_a_corpus_of_something_else_is_refused_with_the_fix(sentences):
    with pytest.raises(UserError, match=r"records of \d texts.*data\.text_fields"):
        make(sentences)


@pytest.mark.parametrize("method", ["none", "best_fit"])
def test_every_pair_comes_once_and_whole_whatever_shares_its_row(method):
    rng = np.random.default_rng(3)
    sentences = rng.integers(1, 12, (41, 2))
    rows = pipeline.make_rows(
        OBJECTIVE,
        Shards(sentences),
        VOCABULARY,
        row_length=23,
        method=method,
        seed=1,
        cache=None,
        train=False,
    )
    found = []
    for row in rows.read(range(len(rows))):
        got = OBJECTIVE.prepare(row, VOCABULARY, rng, train=True)
        assert got.source_tokens_BS.shape == got.tokens_BT.shape == (23,)
        for number in range(1, got.segments_BT.max() + 1):
            source = got.source_tokens_BS[got.source_segments_BS == number]
            inside = got.segments_BT == number
            target = got.targets.ids_BM[inside]
            assert source[-1] == target[-1] == VOCABULARY.eos and got.targets.weights_BM[inside].all()
            assert got.tokens_BT[inside].tolist() == [VOCABULARY.pad, *target[:-1]]
            found.append((len(source) - 1, len(target) - 1, source[0], target[0]))
            assert target[0] - source[0] == len(source) - 1  # one document, target behind source
    assert sorted((s, t) for s, t, _, _ in found) == sorted(map(tuple, sentences.tolist()))
    assert len({source for _, _, source, _ in found}) == 41
    assert OBJECTIVE.slots(46, True) == 23


def test_columns_of_a_tsv_are_the_text_fields_in_order(tmp_path):
    lines = [f"the house number {i} is red\tla maison numéro {i} est rouge" for i in range(30)]
    path = tmp_path / "pairs.tsv.gz"
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))

    def prepared(**settings):
        corpus = Corpus(source=str(path), validation_share=0.0, test_share=0.0, **settings)
        config = Bpe(vocab_size=100, sentinels=0)
        return prepare.prepare(corpus, config, sentences=True, cache=tmp_path / "c", log=lambda _: None)

    ready = prepared(text_fields=("source", "target"))
    opened = shards.open_shards(ready.directory, "train", tokenizer_fingerprint=ready.tokenizer.fingerprint)
    items = translations.make_translations(
        opened, ready.tokenizer.vocabulary, max_tokens=99, cache=Cache(tmp_path / "i")
    )
    pieces = items.pieces([(k, 0, int(n)) for k, n in enumerate(items.lengths)])
    side = lambda piece, type: ready.tokenizer.decode(piece.tokens[piece.texts == type].tolist())
    assert {f"{side(p, 0)}\t{side(p, 1)}" for p in pieces} == set(lines)
    with pytest.raises(UserError, match=r"pairs\.tsv\.gz:1: 2 columns, and 1 asked for \(text\)"):
        prepared()
