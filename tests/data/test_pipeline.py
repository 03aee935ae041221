import hashlib
import sys

import cloudpickle
import grain
import jax
import numpy as np
import pytest

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data import attest, pipeline
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.next_sentence import NextSentence

V, BATCH, LENGTH = 50, 8, 37
SPECIAL = np.zeros(V, bool)
SPECIAL[[0, 2, 3, 4]] = True
VOCABULARY = Vocabulary(
    size=V, pad=0, unk=1, cls=2, sep=3, mask=4, special_V=SPECIAL, continues_V=np.zeros(V, bool)
)
MASKED = MaskedLM(rate=0.3, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())
PAIRS = NextSentence(masked_lm=MASKED, short_share=0.1, random_share=0.5, duplicates=2, pairs_per_row=3)

# Reader processes cannot import a test module by name.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Shards:
    fingerprint = "s"

    def __init__(self):
        rng = np.random.default_rng(0)
        self.sentences = [rng.integers(1, 9, rng.integers(1, 12)) for _ in range(90)]
        self.lengths = np.array([s.sum() for s in self.sentences], np.uint32)

    def __len__(self):
        return len(self.lengths)

    def __getitems__(self, ks):
        return [self[k] for k in ks]

    def __getitem__(self, k):
        return np.random.default_rng(k).integers(5, V, self.lengths[k], dtype=np.int32)

    def sentence_lengths(self, k):
        return self.sentences[k]


def make_rows(objective=MASKED, train=True, seed=3, cache=None):
    return pipeline.make_rows(
        objective,
        Shards(),
        VOCABULARY,
        row_length=LENGTH,
        method="best_fit",
        seed=seed,
        cache=cache,
        train=train,
    )


def batches(start, count, objective=MASKED, train=True, seed=3, host_rows=range(BATCH), rows=None, **kwargs):
    rows = rows or make_rows(objective, train, seed)
    stream = pipeline.host_batches(
        rows,
        objective,
        VOCABULARY,
        batch_size=BATCH,
        host_rows=host_rows,
        start=start,
        seed=seed,
        train=train,
        **kwargs,
    )
    try:
        return [batch for batch, _ in zip(stream, range(count), strict=False)]
    finally:
        stream.close()


def digest(made):
    """Of a list of batches given as {field: array}."""
    state = hashlib.sha256()
    for fields in made:
        for name in sorted(fields):
            state.update(name.encode() + np.ascontiguousarray(fields[name]).tobytes())
    return state.hexdigest()


def fields(batch):
    return {jax.tree_util.keystr(path): value for path, value in jax.tree.leaves_with_path(batch)}


@pytest.mark.parametrize("objective", [MASKED, PAIRS], ids=["documents", "pairs"])
def test_1_2_4_and_8_hosts_read_the_same_stream(objective):
    count = (
        2 * len(make_rows(objective)) // BATCH + 1
    )  # over two ends of an epoch, which no batch is aligned to
    found = set()
    for hosts in (1, 2, 4, 8):
        share = BATCH // hosts
        parts = [
            batches(0, count, objective, host_rows=range(h * share, (h + 1) * share)) for h in range(hosts)
        ]
        whole = [
            {name: np.concatenate([fields(part)[name] for part in step]) for name in fields(step[0])}
            for step in zip(*parts, strict=True)
        ]
        found.add(digest(whole))
    assert len(found) == 1


def test_scattered_rows_are_the_rows_of_the_batch():
    whole, some = batches(2, 3), batches(2, 3, host_rows=[1, 2, 6])
    for a, b in zip(whole, some, strict=True):
        for name, value in fields(a).items():
            np.testing.assert_array_equal(value[[1, 2, 6]], fields(b)[name])


@pytest.mark.parametrize("start", [1, 7, 23])
def test_a_resumed_stream_equals_the_uninterrupted_one(start):
    whole = [fields(b) for b in batches(0, 30)]
    assert digest([fields(b) for b in batches(start, 30 - start)]) == digest(whole[start:])


def test_a_stream_starts_at_any_step():
    far = 10**12
    a, b = batches(far, 2), batches(far + 1, 1)
    assert digest([fields(a[1])]) == digest([fields(b[0])])
    assert digest([fields(a[0])]) != digest([fields(b[0])])


def test_reader_processes_change_nothing(tmp_path):
    rows = make_rows(cache=Cache(tmp_path))
    rows[0]
    inside = [fields(b) for b in batches(5, 7, rows=rows, label="x", excluded=((6, 8),))]
    outside = [fields(b) for b in batches(5, 7, rows=rows, label="x", excluded=((6, 8),), workers=2)]
    assert digest(inside) == digest(outside)


def test_a_row_has_other_masks_in_every_epoch():
    rows = make_rows()
    n = len(rows)
    seen = {}
    for batch, step in zip(batches(0, 2 * n // BATCH + 1, rows=rows), range(10**6), strict=False):
        for b in range(BATCH):
            i = step * BATCH + b
            seen.setdefault(rows.plan_row(i), []).append(batch.targets.places_BM[b].tolist())
    twice = [masks for masks in seen.values() if len(masks) >= 2]
    assert len(twice) >= n - BATCH and sum(a == b for a, b, *_ in twice) < 0.3 * len(twice)


def test_the_seed_decides_the_stream():
    assert digest([fields(b) for b in batches(0, 3)]) != digest([fields(b) for b in batches(0, 3, seed=4)])


def test_evaluation_masks_never_change():
    first = digest([fields(b) for b in batches(0, 99, train=False)])
    assert first == digest([fields(b) for b in batches(0, 99, train=False)])
    assert first == digest([fields(b) for b in batches(0, 99, train=False, workers=2)])
    other = [fields(b) for b in batches(0, 99, train=False, seed=4)]
    assert first != digest(other)


def test_an_evaluation_reads_every_row_once_and_fills_the_last_batch_with_nothing():
    rows = make_rows(train=False)
    made = batches(0, 10**6, train=False, rows=rows)
    assert len(made) == pipeline.evaluation_steps(rows, BATCH) == -(-len(rows) // BATCH)
    assert len(rows) % BATCH  # else this test shows nothing
    used = sum(int((b.segments_BT > 0).sum()) for b in made)
    assert used == rows.plan.length.sum() + 2 * len(rows.plan.length)
    empty = made[-1].segments_BT.max(axis=1) == 0
    assert empty.sum() == -len(rows) % BATCH
    assert not made[-1].targets.weights_BM[empty].any()
    assert made[0].targets.places_BM.shape[1] == MASKED.slots(LENGTH, train=False)


def test_a_limited_evaluation_reads_that_many_rows():
    made = batches(0, 10**6, train=False, limit=11)
    assert len(made) == 2
    assert (np.concatenate([b.segments_BT for b in made]).max(axis=1) > 0).sum() == 11


def test_evaluation_hosts_with_only_empty_rows_get_them():
    rows = make_rows(train=False)
    made = batches(0, 10**6, train=False, rows=rows, limit=9, host_rows=[6, 7])
    assert len(made) == 2 and not made[1].segments_BT.any()


@pytest.mark.parametrize("objective", [MASKED, PAIRS], ids=["masked", "pairs"])
@pytest.mark.parametrize("train", [True, False])
def test_a_batch_knows_how_many_segments_a_row_may_have_and_each_is_one_run(objective, train):
    rows = make_rows(objective, train)
    limit = 0 if train else 3 * BATCH + 1  # the last batch has empty rows
    batches = pipeline.host_batches(
        rows,
        objective,
        VOCABULARY,
        batch_size=BATCH,
        host_rows=range(BATCH),
        start=0,
        seed=3,
        train=train,
        limit=limit,
    )
    for batch, _ in zip(batches, range(4), strict=False):
        assert rows.plan.max_items <= batch.most_segments < rows.plan.max_items + min(8, rows.plan.max_items)
        for segments in batch.segments_BT:
            number = segments.max()
            runs = segments[np.flatnonzero(np.diff(segments, prepend=-1))]
            assert runs.tolist() in ([*range(1, number + 1)], [*range(1, number + 1), 0])


def test_training_never_ends_and_hands_out_a_grain_iterator():
    rows = make_rows()
    stream = pipeline.host_batches(
        rows, MASKED, VOCABULARY, batch_size=BATCH, host_rows=[0], start=10**15, seed=0, train=True
    )
    assert isinstance(stream, grain.DatasetIterator)
    assert next(stream).tokens_BT.shape == (1, LENGTH)
    stream.close()


def test_evaluation_pairs_are_made_once_whatever_the_duplicates():
    train, evaluation = make_rows(PAIRS, train=True), make_rows(PAIRS, train=False)
    assert len(train.items.lengths) > 1.5 * len(evaluation.items.lengths)
    assert train.plan.max_items <= 3


@pytest.mark.parametrize("objective", [MASKED, PAIRS], ids=["documents", "pairs"])
def test_digests_add_up_to_the_same_on_1_2_4_and_8_hosts_and_when_the_rows_are_read_again(objective):
    rows, found = make_rows(objective), set()
    for hosts in (1, 2, 4, 8):
        share = BATCH // hosts
        parts = [range(h * share, (h + 1) * share) for h in range(hosts)]
        made = [batches(3, 9, objective, host_rows=part, label="stage 0") for part in parts]
        found.add(sum(attest.total(batch.digests_B) for host in made for batch in host) % 2**attest.BITS)
    numbers = list(range(3 * BATCH, 12 * BATCH))[::-1]  # in any order
    found.add(attest.total(attest.digests(rows.read(numbers), "stage 0", numbers)))
    assert len(found) == 1
    plain, labelled = batches(3, 1, objective)[0], batches(3, 1, objective, label="stage 0")[0]
    assert plain.digests_B is None and labelled.digests_B.shape == (BATCH, 32)


def test_what_is_drawn_counts_for_nothing():
    rows, other = make_rows(), MaskedLM(**{**vars(MASKED), "rate": 0.1})
    one, two = (batches(0, 2, objective, rows=rows, label="x") for objective in (MASKED, other))
    assert any((a.tokens_BT != b.tokens_BT).any() for a, b in zip(one, two, strict=True))
    assert all((a.digests_B == b.digests_B).all() for a, b in zip(one, two, strict=True))


def test_excluded_batches_are_passed_over_and_the_rest_stays_in_order():
    whole, rows = batches(0, 16), make_rows()
    # Batches 3 and 4, then what was 3 of those left (5), then what is 6 to 8 (9 to 11) of those left after that.
    made = batches(1, 8, rows=rows, excluded=((3, 5), (3, 4), (6, 9)))
    expected = [whole[i] for i in (1, 2, 6, 7, 8, 12, 13, 14)]
    assert digest(map(fields, made)) == digest(map(fields, expected))
