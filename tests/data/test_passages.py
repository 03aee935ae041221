import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.data import pipeline
from jaxlm.data.rows import packing
from jaxlm.data.rows.documents import FOLLOWING, Passages
from jaxlm.objectives.causal_lm import CausalLM

V, EOS = 61, 2
SPECIAL = np.arange(V) < 3
VOCABULARY = Vocabulary(size=V, pad=0, bos=1, eos=EOS, special_V=SPECIAL, continues_V=np.zeros(V, bool))


class Shards:
    fingerprint = "documents"

    def __init__(self):
        rng = np.random.default_rng(0)
        self.documents = [rng.integers(3, V, n, dtype=np.int32) for n in rng.integers(1, 40, 57)]
        self.lengths = np.array([len(d) for d in self.documents], np.uint32)

    def __len__(self):
        return len(self.documents)

    def __getitems__(self, ks):
        return [self.documents[k] for k in ks]


def test_a_piece_is_bare_and_labelled_with_what_follows():
    shards = Shards()
    items = Passages(shards, VOCABULARY, 3)
    n = len(shards.documents[5])
    whole, head, tail = items.pieces([(5, 0, n), (5, 0, n - 2), (5, n - 2, 2)])
    assert whole.tokens.tolist() == [*head.tokens, *tail.tokens] == shards.documents[5].tolist()
    assert tuple(piece.columns[FOLLOWING] for piece in (whole, head, tail)) == (
        EOS,
        shards.documents[5][n - 2],
        EOS,
    )
    assert (
        items.overhead == 3
        and items.splittable
        and items.fingerprint != Passages(shards, VOCABULARY, 3).shards
    )


def test_every_packing_predicts_every_token_and_every_end_exactly_once():
    shards = Shards()
    objective = CausalLM(z_loss=0.0, label_smoothing=0.0)
    for method in packing._METHODS:
        rows = pipeline.make_rows(
            objective, shards, VOCABULARY, row_length=23, method=method, seed=3, cache=None, train=False
        )
        predicted = []
        for i in range(len(rows)):
            row = objective.prepare(rows[i], VOCABULARY, np.random.default_rng(0), train=False)
            assert row.tokens_BT.shape == (23,)
            predicted += row.targets.ids_BM[row.targets.weights_BM > 0].tolist()
        counts = np.bincount(np.concatenate(shards.documents), minlength=V)
        again = np.bincount(predicted, minlength=V)
        assert again[EOS] == len(shards)
        # A cut piece predicts the next piece's first token, which that piece predicts again from bos.
        extra = again - counts
        extra[EOS] -= len(shards)
        assert (extra >= 0).all() and extra.sum() == len(rows.plan.item) - len(shards)
