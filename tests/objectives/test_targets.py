"""What the targets of a row say about themselves, and that rows become batches with them."""

import jax
import numpy as np

from jaxlm.batch import Batch, Shown, stacked
from jaxlm.objectives.sentence_pairs import PairTargets
from jaxlm.objectives.targets import ItemTargets, TokenTargets

IDS = np.array([[7, 8, 9, 0], [3, 4, 5, 6]], np.int32)
WEIGHTS = np.array([[1, 0, 1, 0], [0, 1, 1, 1]], np.float32)
PLACES = np.array([[11, 2, 5, 0], [1, 13, 0, 6]], np.int32)
TOKENS = TokenTargets(ids_BM=IDS, weights_BM=WEIGHTS, places_BM=PLACES)
ITEMS = ItemTargets(
    first_BC=np.array([[0, 4, 9], [0, 7, 0]], np.int32),
    labels_BC=np.array([[1, 0, 2], [0, 1, 0]], np.int32),
    weights_BC=np.array([[1, 0, 1], [1, 1, 0]], np.float32),
)


def test_tokens_say_what_is_wanted_where_and_leave_out_what_has_no_weight():
    assert TOKENS.show(0) == Shown(wanted={11: 7, 5: 9})
    assert TOKENS.show(1) == Shown(wanted={13: 4, 0: 5, 6: 6})
    in_place = TokenTargets(ids_BM=IDS, weights_BM=WEIGHTS)
    assert in_place.show(0) == Shown(wanted={0: 7, 2: 9}, in_place=True)
    assert TOKENS.tokens is TOKENS


def test_items_are_numbered_like_segments_and_have_their_labels():
    assert ITEMS.show(0) == Shown(notes={1: "label 1", 3: "label 2"})
    assert ITEMS.show(1) == Shown(notes={1: "label 0", 2: "label 1"})


def test_pairs_show_both_and_the_tokens_decide_whether_in_place():
    both = PairTargets(tokens=TOKENS, items=ITEMS)
    assert both.show(0) == Shown(wanted={11: 7, 5: 9}, notes={1: "label 1", 3: "label 2"})
    in_place = PairTargets(tokens=TokenTargets(ids_BM=IDS, weights_BM=WEIGHTS), items=ITEMS)
    assert in_place.show(1) == Shown(
        wanted={1: 4, 2: 5, 3: 6}, in_place=True, notes={1: "label 0", 2: "label 1"}
    )


def test_stacked_rows_are_a_batch_with_all_fields_and_no_others():
    batch = Batch(
        tokens_BT=IDS,
        segments_BT=IDS + 1,
        positions_BT=IDS + 2,
        targets=PairTargets(tokens=TOKENS, items=ITEMS),
    )
    again = stacked([jax.tree.map(lambda x, b=b: x[b], batch) for b in range(2)])
    assert jax.tree.structure(again) == jax.tree.structure(batch) and again.types_BT is None
    jax.tree.map(np.testing.assert_array_equal, again, batch)
