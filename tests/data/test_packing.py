import cloudpickle
import numpy as np
import pytest

from jaxlm.cached import Cache
from jaxlm.data.rows import best_fit, packing
from jaxlm.data.rows.plan import open_plan
from jaxlm.errors import UserError

METHODS = ["none", "concatenate", "best_fit"]


class Lengths:
    def __init__(self, lengths, overhead=2, splittable=True, fingerprint="f"):
        self.lengths = np.asarray(lengths, np.uint32)
        self.overhead, self.splittable, self.fingerprint = overhead, splittable, fingerprint


def make(lengths, method, row_length=37, max_items=99, seed=5, cache=None, **kwargs):
    return packing.plan(
        Lengths(lengths, **kwargs),
        row_length=row_length,
        method=method,
        max_items=max_items,
        seed=seed,
        cache=cache,
    )


def covered(plan, lengths):
    """How often each token of each item stands in a row, counted one by one."""
    seen = [np.zeros(n, int) for n in lengths]
    for row in range(plan.rows):
        for item, start, length in plan.pieces(row):
            assert length >= 1 and start + length <= lengths[item]
            seen[item][start : start + length] += 1
    return seen


def lognormal(n, seed=0, median=200.0):
    return np.maximum(np.random.default_rng(seed).lognormal(np.log(median), 1.0, n), 1).astype(np.uint32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("max_items", [1, 3, 99])
@pytest.mark.parametrize("row_length", [8, 37])
def test_every_token_is_in_exactly_one_row_and_no_row_overflows(method, max_items, row_length):
    rng = np.random.default_rng(row_length)
    lengths = np.concatenate([rng.integers(0, 9, 211), rng.integers(1, 150, 97), [35, 36, 37, 70, 71, 1, 0]])
    plan = make(lengths, method, row_length=row_length, max_items=max_items)
    assert all((seen == 1).all() for seen in covered(plan, lengths))
    sums = [sum(length + 2 for _, _, length in plan.pieces(r)) for r in range(plan.rows)]
    assert max(sums) <= row_length
    assert max(len(plan.pieces(r)) for r in range(plan.rows)) == plan.max_items <= max_items
    assert plan.efficiency == pytest.approx(sum(sums) / (plan.rows * row_length))


@pytest.mark.parametrize("method", METHODS)
def test_concatenation_across_blocks_equals_one_block(method, monkeypatch):
    lengths = lognormal(997, median=30.0)
    whole = make(lengths, method)
    monkeypatch.setattr(packing, "CHUNK", 64)
    monkeypatch.setattr(best_fit, "CHUNK", 64)
    blocked = make(lengths, method)
    for name in ("row_offsets", "item", "start", "length"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(blocked, name))


@pytest.mark.parametrize("row_length", [128, 512])
@pytest.mark.parametrize("method", ["concatenate", "best_fit"])
def test_rows_are_at_least_98_percent_full_on_usual_lengths(method, row_length):
    assert make(lognormal(20_000), method, row_length=row_length, max_items=64).efficiency >= 0.98


def test_concatenated_rows_are_full_except_between_documents():
    lengths = lognormal(500)
    plan = make(lengths, "concatenate", row_length=64)
    used = [sum(length + 2 for _, _, length in plan.pieces(r)) for r in range(plan.rows - 1)]
    assert min(used) >= 64 - 2 - 1


def best_fit_decreasing(sizes, row_length, max_items):
    """The textbook algorithm, one piece at a time."""
    rows = []
    for size in sorted(sizes, reverse=True):
        fitting = [r for r in rows if sum(r) + size <= row_length and len(r) < max_items]
        if fitting:
            max(fitting, key=sum).append(size)
        else:
            rows.append([size])
    return rows


@pytest.mark.parametrize("max_items", [2, 5, 99])
def test_histogram_packing_makes_as_full_rows_as_best_fit_decreasing_one_by_one(max_items):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(3, 41, rng.integers(1, 300))
        kinds = best_fit.row_kinds(np.bincount(sizes, minlength=42), 41, max_items)
        expanded = [
            [s for s, copies in comp for _ in range(copies)] for rows, comp in kinds for _ in range(rows)
        ]
        assert sorted(s for row in expanded for s in row) == sorted(sizes.tolist())
        assert all(sum(row) <= 41 and len(row) <= max_items for row in expanded)
        reference = best_fit_decreasing(sizes.tolist(), 41, max_items)
        if max_items == 99:  # with a cap, ties between equally full rows may be broken another way
            assert sorted(map(sum, expanded)) == sorted(map(sum, reference))
        assert len(expanded) <= len(reference) + 1


def test_documents_in_a_row_are_not_neighbours_in_the_corpus():
    lengths = np.full(4000, 8)  # four to a row of 40
    plan = make(lengths, "best_fit", row_length=40)
    gaps = np.abs(np.diff(plan.item.astype(int).reshape(-1, 4), axis=1))
    assert plan.rows == 1000 and (gaps <= 4).mean() < 0.02
    assert abs(np.corrcoef(np.arange(1000), plan.item[::4])[0, 1]) < 0.15  # nor are rows in corpus order


@pytest.mark.parametrize("method", METHODS)
def test_the_plan_follows_from_the_seed(method):
    lengths = lognormal(300, median=20.0)
    a, b, other = (make(lengths, method, seed=s) for s in (5, 5, 6))
    assert np.array_equal(a.item, b.item) and a.fingerprint == b.fingerprint
    assert not np.array_equal(a.item, other.item) and a.fingerprint != other.fingerprint


def test_a_cached_plan_is_found_again_and_travels_as_a_path(tmp_path):
    lengths = lognormal(30_000, median=20.0)
    fresh = make(lengths, "best_fit", cache=Cache(tmp_path))
    (folder,) = tmp_path.glob("plans/plan-*")
    assert isinstance(fresh.item, np.memmap)
    before = (folder / "item.npy").stat().st_mtime_ns
    again = make(lengths, "best_fit", cache=Cache(tmp_path))
    assert (folder / "item.npy").stat().st_mtime_ns == before
    in_memory = make(lengths, "best_fit")
    for name in ("row_offsets", "item", "start", "length"):
        np.testing.assert_array_equal(getattr(again, name), getattr(in_memory, name))
        assert getattr(again, name).dtype == getattr(in_memory, name).dtype
    assert (again.efficiency, again.max_items) == (in_memory.efficiency, in_memory.max_items)
    assert len(cloudpickle.dumps(again)) < 2000 < len(cloudpickle.dumps(in_memory))
    assert cloudpickle.loads(cloudpickle.dumps(again)).pieces(7) == in_memory.pieces(7)
    assert make(lengths, "best_fit", cache=Cache(tmp_path), fingerprint="g").directory != again.directory


def test_a_crash_while_writing_leaves_no_plan_behind(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", fail)
        with pytest.raises(UserError, match=r"plan-.*cannot be made: disk full.*JAXLM_CACHE"):
            make([5, 6], "best_fit", cache=Cache(tmp_path))
    assert [path.name for path in tmp_path.glob("plans/*")] == [".lock"]
    assert open_plan(make([5, 6], "best_fit", cache=Cache(tmp_path)).directory).rows == 1


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"row_length": 7}, "at least 8"),
        ({"max_items": 0}, "max_items=0"),
        ({"method": "bestfit"}, "allowed: none, concatenate, best_fit"),
        ({"lengths": [0, 0]}, "nothing to pack"),
        ({"splittable": False, "method": "concatenate"}, "cannot be cut"),
        ({"splittable": False, "overhead": 3, "lengths": [35]}, "does not fit a row of 37"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_what_cannot_be_packed_is_a_user_error(kwargs, message):
    with pytest.raises(UserError, match=message):
        make(**{"lengths": [5, 6], "method": "best_fit", **kwargs})
