import dataclasses
import hashlib

import numpy as np
import pytest

from jaxlm.batch import Row
from jaxlm.data import attest

ROW = Row(
    tokens_T=np.arange(6, dtype=np.int32),
    segments_T=np.array([1, 1, 1, 2, 2, 0], np.int32),
    positions_T=np.array([0, 1, 2, 0, 1, 0], np.int32),
    texts_T=np.zeros(6, np.int32),
    first_C=np.array([0, 3], np.int32),
    columns={"label": np.array([4, 5], np.int32), "b": np.array([0.5, 1], np.float32)},
)


def test_the_digest_of_a_row_is_what_the_documentation_says():
    said = [
        b"jaxlm row 1\0stage 0\x007\x006\0",
        *(ROW.tokens_T, ROW.segments_T, ROW.positions_T, ROW.texts_T),
    ]
    said += [b"b\0<f4\x002\0", ROW.columns["b"], b"label\0<i4\x002\0", ROW.columns["label"]]
    assert attest.digest(ROW, "stage 0", 7) == hashlib.sha256(b"".join(map(bytes, said))).digest()


def changed(name):
    if name == "columns":
        return dataclasses.replace(ROW, columns={**ROW.columns, "label": np.array([4, 6], np.int32)})
    values = getattr(ROW, name).copy()
    values[-1] += 1
    return dataclasses.replace(ROW, **{name: values})


def test_it_changes_with_everything_that_a_model_sees_and_with_the_place_in_the_stream():
    fields = ("tokens_T", "segments_T", "positions_T", "texts_T", "columns")
    made = [attest.digest(row, "stage 0", 7) for row in (ROW, *map(changed, fields))]
    made += [attest.digest(ROW, "stage 1", 7), attest.digest(ROW, "stage 0", 8)]
    made.append(attest.digest(dataclasses.replace(ROW, columns={}), "stage 0", 7))
    assert len(set(made)) == len(made)
    big = dataclasses.replace(ROW, tokens_T=ROW.tokens_T.astype(">i4"))
    assert attest.digest(big, "stage 0", 7) == made[0], "not with the order of bytes of a machine"


@pytest.mark.parametrize("split", [1, 3, 5])
def test_sums_of_parts_are_the_sum_of_all_in_any_order_and_rows_swapped_are_noticed(split):
    rows = [changed("tokens_T"), *[ROW] * 5]
    numbers = list(range(6))
    whole = attest.total(attest.digests(rows, "x", numbers))
    parts = [
        attest.total(attest.digests(rows[s], "x", numbers[s])) for s in (slice(split), slice(split, None))
    ]
    assert sum(parts[::-1]) % 2**256 == whole < 2**256
    assert attest.total(attest.digests(rows[::-1], "x", numbers[::-1])) == whole
    assert attest.total(attest.digests(rows[::-1], "x", numbers)) != whole
