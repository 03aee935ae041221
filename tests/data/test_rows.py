import jax
import numpy as np
import pytest

from jaxlm.batch import Vocabulary
from jaxlm.data.rows import packing
from jaxlm.data.rows.documents import Documents
from jaxlm.data.rows.rows import Rows

NO = np.zeros(50, bool)
VOCABULARY = Vocabulary(size=50, pad=9, unk=1, cls=2, sep=3, mask=4, special_V=NO, continues_V=NO)
LENGTHS = np.random.default_rng(0).integers(1, 90, 241)


class Shards:
    fingerprint = "s"
    lengths = LENGTHS.astype(np.uint32)

    def __len__(self):
        return len(self.lengths)

    def __getitems__(self, ks):
        return [self[k] for k in ks]

    def __getitem__(self, k):
        return np.arange(self.lengths[k], dtype=np.int32) + 1000 * (k + 1)


def make(seed=5, shuffle=True, method="best_fit"):
    items = Documents(Shards(), VOCABULARY)
    plan = packing.plan(items, row_length=37, method=method, max_items=7, seed=1, cache=None)
    return Rows(items, plan, VOCABULARY, seed=seed, shuffle=shuffle)


@pytest.mark.parametrize("method", ["none", "concatenate", "best_fit"])
def test_a_row_is_its_pieces_one_after_another(method):
    rows = make(shuffle=False, method=method)
    for i in range(len(rows)):
        row, at = rows[i], 0
        for c, (item, start, length) in enumerate(rows.plan.pieces(i)):
            span = slice(at, at + length + 2)
            first = 1000 * (item + 1) + start
            assert row.tokens_T[span].tolist() == [2, *range(first, first + length), 3]
            assert (row.segments_T[span] == c + 1).all()
            assert row.positions_T[span].tolist() == list(range(length + 2))
            assert row.first_C[c] == at
            at = span.stop
        assert (
            (row.tokens_T[at:] == 9).all()
            and not row.segments_T[at:].any()
            and not row.positions_T[at:].any()
        )
        assert row.first_C.shape == (rows.plan.max_items,)
        assert all(values.dtype == np.int32 for values in jax.tree.leaves(vars(row)))


def test_every_epoch_has_every_row_once_in_another_order():
    rows = make()
    n = len(rows)
    epochs = [[rows.plan_row(e * n + i) for i in range(n)] for e in range(4)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    for a in range(4):
        for b in range(a):
            assert sum(x == y for x, y in zip(epochs[a], epochs[b], strict=True)) < 8  # one is expected
    assert len({tuple(epoch[:3]) for epoch in epochs}) == 4


def test_neighbouring_seeds_share_no_epoch():
    n = len(make())
    orders = {tuple(make(seed=s).plan_row(e * n + i) for i in range(5)) for s in range(3) for e in range(4)}
    assert len(orders) == 12


def test_the_order_is_well_mixed():
    n = len(make())
    order = np.array([make().plan_row(i) for i in range(n)])
    assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 4 / np.sqrt(n)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 4 / np.sqrt(n)


def test_a_row_of_epoch_a_billion_is_there_at_once():
    rows = make()
    i = 10**9 * len(rows) + 3  # a stream that counted its way there would not come back
    assert (rows[i].segments_T > 0).any() and (rows[i].tokens_T == make()[i].tokens_T).all()


def test_rows_depend_on_nothing_but_their_number():
    forwards, backwards = make(), make()
    a = [forwards[i].tokens_T for i in range(50)]
    b = [backwards[i].tokens_T for i in reversed(range(50))][::-1]
    np.testing.assert_array_equal(a, b)
    assert forwards.fingerprint == backwards.fingerprint != make(seed=6).fingerprint


def test_rows_read_together_equal_rows_read_alone():
    rows = make()
    numbers = [7, 3, 7, 10**9]
    for i, row in zip(numbers, rows.read(numbers), strict=True):
        for name, value in vars(row).items():
            np.testing.assert_array_equal(value, getattr(rows[i], name))


def test_ordered_rows_end_and_an_empty_row_is_padding():
    rows = make(shuffle=False)
    with pytest.raises(IndexError):
        rows[len(rows)]
    empty = rows.empty()
    assert (empty.tokens_T == 9).all() and not empty.segments_T.any()
