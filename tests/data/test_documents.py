import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.data.rows.documents import Documents

NO = np.zeros(50, bool)
VOCABULARY = Vocabulary(size=50, pad=0, unk=1, cls=2, sep=3, mask=4, special_V=NO, continues_V=NO)


class Shards:
    fingerprint = "s"

    def __init__(self, documents):
        self.documents = [np.asarray(d, np.int32) for d in documents]
        self.lengths = np.array([len(d) for d in documents], np.uint32)

    def __len__(self):
        return len(self.documents)

    def __getitems__(self, ks):
        return [self[k] for k in ks]

    def __getitem__(self, k):
        return self.documents[k]


def test_a_piece_is_the_tokens_between_cls_and_sep():
    items = Documents(Shards([[10, 11], [20, 21, 22, 23, 24]]), VOCABULARY)
    other, piece, _ = items.pieces([(0, 0, 2), (1, 1, 3), (1, 4, 1)])
    assert other.tokens.tolist() == [2, 10, 11, 3]
    assert piece.tokens.tolist() == [2, 21, 22, 23, 3]
    assert piece.texts.tolist() == [0] * 5
    assert piece.tokens.dtype == piece.texts.dtype == np.int32
    assert items.overhead == len(piece.tokens) - 3


def test_splits_of_one_corpus_have_different_fingerprints():
    train, test = Shards([[10, 11], [12]]), Shards([[10, 11], [12, 13]])
    assert Documents(train, VOCABULARY).fingerprint == Documents(train, VOCABULARY).fingerprint
    assert Documents(train, VOCABULARY).fingerprint != Documents(test, VOCABULARY).fingerprint
