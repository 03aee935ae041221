import numpy as np

from jaxlm.batch import Batch
from jaxlm.data.show import show_batch
from jaxlm.objectives.sentence_pairs import PairTargets
from jaxlm.objectives.targets import ItemTargets, TokenTargets

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "cat", "sat", "mat", "dog"]


def test_the_text_shows_masks_targets_segments_positions_and_labels():
    batch = Batch(
        tokens_BT=np.array([[1, 4, 3, 2, 6, 2, 1, 7, 2, 0, 0]]),
        segments_BT=np.array([[1, 1, 1, 1, 1, 1, 2, 2, 2, 0, 0]]),
        positions_BT=np.array([[0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 0]]),
        types_BT=np.array([[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]]),
        targets=PairTargets(
            tokens=TokenTargets(
                ids_BM=np.array([[5, 4, 0]]),
                weights_BM=np.array([[1.0, 1.0, 0.0]], np.float32),
                places_BM=np.array([[2, 7, 0]]),
            ),
            items=ItemTargets(
                first_BC=np.array([[0, 6]]),
                labels_BC=np.array([[1, 0]]),
                weights_BC=np.array([[1.0, 1.0]], np.float32),
            ),
        ),
    )
    assert show_batch(batch, WORDS.__getitem__, rows=2).splitlines() == [
        "row 0: 9 of 11 tokens used, 2 items, 2 predicted",
        "  item 1: row 0..5, positions 0..5, type 0 x4 then type 1 x2, label 1",
        "    [CLS] cat [MASK]→sat [SEP] mat [SEP]",
        "    predicted at: 2",
        "  item 2: row 6..8, positions 0..2, type 0 x3, label 0",
        "    [CLS] dog→cat [SEP]",
        "    predicted at: 7",
    ]


def test_a_batch_without_targets_and_an_empty_row_can_be_shown():
    zero = np.zeros((1, 4), np.int32)
    batch = Batch(tokens_BT=zero, segments_BT=zero, positions_BT=zero, types_BT=zero)
    assert show_batch(batch, WORDS.__getitem__, rows=1) == "row 0: 0 of 4 tokens used, 0 items, 0 predicted"


def test_targets_in_place_sources_and_prefixes_are_shown_below_each_other():
    batch = Batch(
        tokens_BT=np.array([[1, 4, 5, 6, 1, 7, 0]]),
        segments_BT=np.array([[1, 1, 1, 1, 2, 2, 0]]),
        positions_BT=np.array([[0, 1, 2, 3, 0, 1, 0]]),
        prefix_BT=np.array([[1, 1, 0, 0, 1, 0, 0]]),
        source_tokens_BS=np.array([[7, 3, 2, 3, 2]]),
        source_segments_BS=np.array([[1, 1, 1, 2, 2]]),
        source_positions_BS=np.array([[0, 1, 2, 0, 1]]),
        targets=TokenTargets(
            ids_BM=np.array([[0, 5, 6, 2, 7, 2, 0]]),
            weights_BM=np.array([[0, 1, 1, 1, 1, 1, 0]], np.float32),
        ),
    )
    assert show_batch(batch, WORDS.__getitem__, rows=1).splitlines() == [
        "row 0: 6 of 7 tokens used, 2 items, 5 predicted; source 5 of 5 tokens used",
        "  item 1: row 0..3, positions 0..3",
        "    source:   dog [MASK] [SEP]",
        "    sees:     [ [CLS] cat ] sat mat",
        "    predicts: · sat mat [SEP]",
        "  item 2: row 4..5, positions 0..1",
        "    source:   [MASK] [SEP]",
        "    sees:     [ [CLS] ] dog",
        "    predicts: dog [SEP]",
    ]
