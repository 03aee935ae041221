"""A mixture is a pure function of the row's number: in proportion, each source in its own order, whoever reads it."""

import hashlib
import pickle

import numpy as np
import pytest

from jaxlm.batch import Vocabulary
from jaxlm.data import pipeline
from jaxlm.data.rows import mixture, packing
from jaxlm.data.rows.documents import Documents
from jaxlm.data.rows.mixture import Mixed, schedule
from jaxlm.data.rows.rows import Rows
from jaxlm.errors import UserError
from jaxlm.objectives.masked_lm import MaskedLM, Tokens

NO = np.zeros(5000, bool)
VOCABULARY = Vocabulary(size=5000, pad=9, unk=1, cls=2, sep=3, mask=4, special_V=NO, continues_V=NO)
OBJECTIVE = MaskedLM(rate=0.2, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())


class Shards:
    """Every token of source n is between 1000 n and 1000 n + 999."""

    def __init__(self, number, documents, longest=60):
        self.fingerprint = f"s{number}"
        self.number = number
        self.lengths = np.random.default_rng(number).integers(1, longest, documents).astype(np.uint32)

    def __len__(self):
        return len(self.lengths)

    def __getitems__(self, ks):
        return [np.arange(self.lengths[k], dtype=np.int32) + 1000 * self.number + k % 900 for k in ks]


def rows_of(number, documents, longest=60, seed=5):
    items = Documents(Shards(number, documents, longest), VOCABULARY)
    plan = packing.plan(items, row_length=37, method="best_fit", max_items=9, seed=1, cache=None)
    return Rows(items, plan, VOCABULARY, seed=seed + number, shuffle=True)


def make(weights=(3.0, 1.0, 0.5), epochs=(0, 0, 0)):
    sources = {"a": rows_of(1, 40), "b": rows_of(2, 150, longest=7), "c": rows_of(3, 90)}
    return Mixed(sources, weights, epochs, seed=7)


def places(mixed, count, start=0):
    return [mixed.place(i) for i in range(start, start + count)]


def test_sources_come_in_proportion_evenly_spread_and_each_in_its_own_order():
    mixed = make()
    shares = np.array([3, 1, 0.5]) / 4.5
    seen = np.zeros(3, int)
    for i, (source, k) in enumerate(places(mixed, 3 * mixture.BLOCK // 2)):
        assert k == seen[source], "the rows of a source come one after another, none left out"
        seen[source] += 1
        assert (abs(seen - (i + 1) * shares) < 2).all()


def test_any_row_is_found_at_once():
    mixed = make(epochs=(0, 2.5, 1))
    far = 10**12 + 12345
    counts = mixed.phases[-1].used(far)
    source, k = mixed.place(far)
    assert k == counts[source]
    assert [mixed.place(i) for i in (far, 3, 5000)] == [
        (source, k),
        places(mixed, 4)[3],
        places(mixed, 5001)[5000],
    ]


def test_a_source_ends_after_its_epochs_and_the_others_share_its_room():
    mixed = make(epochs=(0, 2.5, 1))
    found = places(mixed, 4000)
    _, b, c = mixed.sources
    assert sorted(k for s, k in found if s == 1) == list(range(int(np.ceil(2.5 * len(b)))))
    assert sorted(k for s, k in found if s == 2) == list(range(len(c)))
    assert sorted(k for s, k in found if s == 0) == list(range(4000 - int(np.ceil(2.5 * len(b))) - len(c)))
    assert len(mixed.phases) == 3 and {s for s, _ in found[mixed.phases[-1].start :]} == {0}
    middle = [s for s, _ in found[mixed.phases[1].start : mixed.phases[2].start]]
    assert abs(middle.count(0) - 3 * len(middle) / (4 if 1 in middle else 3.5)) < 2
    with pytest.raises(UserError, match=r"every source .*a, b, c.*shares\[0\]\.epochs=0"):
        make(epochs=(1, 1, 1))


def test_rows_are_those_of_the_source_and_all_of_one_shape():
    mixed = make()
    numbers = [7, 3, 3, 900, 0]
    for i, row in zip(numbers, mixed.read(numbers), strict=True):
        source, k = mixed.place(i)
        alone = mixed.sources[source][k]
        assert all(np.array_equal(value, vars(alone)[name]) for name, value in vars(row).items())
        real = row.tokens_T[(row.segments_T > 0) & (row.tokens_T > 9)]
        assert set(real // 1000) <= {source + 1}
        assert row.first_C.shape == mixed.empty().first_C.shape
        assert mixed.listed(i) == {"abc"[source]: mixed.sources[source].listed(k)[""]}
    assert len({rows.plan.max_items for rows in mixed.sources}) > 1


def stream(mixed, hosts, start, steps, batch=8):
    """The hash of every global batch, put together from what each host reads."""
    mixed = pickle.loads(pickle.dumps(mixed))
    share = batch // hosts
    feeds = [
        pipeline.host_batches(
            mixed, OBJECTIVE, VOCABULARY, batch_size=batch, host_rows=range(h * share, (h + 1) * share), start=start,
            seed=mixed.seed, train=True,
        )
        for h in range(hosts)
    ]  # fmt: skip
    hashes = []
    for _ in range(steps):
        parts = [vars(next(feed)) for feed in feeds]
        state = hashlib.sha256()
        for name in ("tokens_BT", "segments_BT", "positions_BT"):
            state.update(np.concatenate([part[name] for part in parts]).tobytes())
        state.update(np.concatenate([part["targets"].ids_BM for part in parts]).tobytes())
        hashes.append(state.hexdigest())
    for feed in feeds:
        feed.close()
    return hashes


def test_one_two_and_four_hosts_read_the_same_rows_also_after_a_restart():
    mixed = make(epochs=(0, 1, 0.5))
    whole = stream(mixed, 1, 0, 24)
    assert len(set(whole)) == 24
    assert stream(mixed, 2, 0, 24) == stream(mixed, 4, 0, 24) == whole
    for hosts in (1, 2, 4):
        assert stream(make(epochs=(0, 1, 0.5)), hosts, 13, 11) == whole[13:]


def test_fingerprints_tell_mixtures_apart():
    made = [
        make(),
        make((3, 1, 0.6)),
        make(epochs=(0, 1, 0)),
        Mixed({"a": rows_of(1, 40)}, (1.0,), (0,), seed=7),
    ]
    assert len({one.fingerprint for one in made}) == 4 and make().fingerprint == make().fingerprint


def test_a_tiny_weight_still_has_a_row_in_every_block():
    (phase,) = schedule((1.0, 1e-9), (0, 0))
    assert phase.counts_S.tolist()[1] == 1
