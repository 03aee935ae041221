"""Excluded steps against brute force: a list of batches from which spans are cut, one after another."""

import numpy as np
import pytest

from jaxlm.config import drift, excluded, flags, tree
from jaxlm.data import pipeline
from jaxlm.errors import UserError
from tests.config.test_drift import ROOT


def batches(spans, steps: int = 300) -> list[int]:
    """The batch of every step, from step 1 on."""
    left = list(range(1000))
    for first, last in spans:
        del left[first - 1 : last]
    return left[:steps]


@pytest.mark.parametrize("seed", range(20))
def test_what_steps_read_and_from_where_on_two_lists_differ(seed):
    rng = np.random.default_rng(seed)

    def drawn(count):
        return tuple((a, a + int(rng.integers(0, 30))) for a in rng.integers(1, 120, count).tolist())

    common, one, other = drawn(rng.integers(3)), drawn(rng.integers(3)), drawn(rng.integers(3))
    one, other = common + one, common + other
    for spans in (one, other):
        local = excluded.batches(spans, 0)
        assert [pipeline.row_numbers(step, 1, local).start for step in range(300)] == batches(spans)
    same = [a == b for a, b in zip(batches(one), batches(other), strict=True)]
    differs = excluded.differ_from([list(span) for span in one], other)
    assert all(same if differs is None else same[: differs - 1])
    more = (*one, (50, 60))
    same = [a == b for a, b in zip(batches(one), batches(more), strict=True)]
    assert excluded.differ_from(one, more) == same.index(False) + 1 == 50


def test_a_later_stage_begins_with_its_own_first_batch_after_what_is_excluded_of_it():
    spans = ((3, 5), (8, 12))
    assert excluded.batches(spans, 10) == ((0, 2),)  # steps 11 and 12
    assert excluded.batches(spans, 12) == ()


@pytest.mark.parametrize("value", ["(3,5)", "((5,3),)", "((0,3),)", "((1,2,3),)", "((1.0,2),)"])
def test_what_is_no_span_is_refused(value):
    with pytest.raises(UserError, match=r"config\.exclude=.*such as \(\(1200, 1260\),\)"):
        flags.parse(["train", f"--config={ROOT}/configs/bert_base.py", f"--config.exclude={value}"])


def test_a_run_of_before_excludes_nothing():
    run = flags.load(ROOT / "configs" / "bert_base.py")
    saved = tree.to_json(run)
    del saved["exclude"]
    assert drift.check(saved, run, allow=False, workdir="runs/x") == []
