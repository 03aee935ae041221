import dataclasses
import math

import numpy as np

from jaxlm.objectives.targets import TokenTargets
from jaxlm.objectives.unigram import count_tokens, unigram_cross_entropy


def asked(ids, weights):
    return TokenTargets(
        ids_BM=np.array([ids], np.int32),
        weights_BM=np.array([weights], np.float32),
        places_BM=np.zeros((1, 3), np.int32),
    )


def test_the_cross_entropy_is_that_of_smoothed_frequencies():
    counts = count_tokens([np.array([1, 1, 3]), np.array([], np.int32), np.array([3, 1])], 5)
    assert counts.tolist() == [0, 3, 0, 2, 0]
    got = unigram_cross_entropy(counts, [asked([1, 3, 4], [1, 1, 0]), asked([4, 0, 0], [1, 0, 0])])
    expected = -(math.log(4 / 10) + math.log(3 / 10) + math.log(1 / 10)) / 3
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_nothing_predicted_gives_no_number():
    assert math.isnan(unigram_cross_entropy(np.ones(5), []))


def test_special_tokens_have_the_share_they_have_among_the_targets():
    counts = np.array([0, 3, 0, 2, 0])
    special = np.array([True, False, False, False, True])
    got = unigram_cross_entropy(counts, [asked([1, 4, 4], [1, 1, 1]), asked([3, 0, 0], [1, 0, 0])], special)
    # half of the four targets are id 4; the other half are spread as in the text
    expected = -(2 * math.log(2 / 4) + math.log(0.5 * 4 / 10) + math.log(0.5 * 3 / 10)) / 4
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    without = [asked([1, 3, 2], [1, 1, 1])]
    np.testing.assert_allclose(
        unigram_cross_entropy(counts, without, special), unigram_cross_entropy(counts, without), rtol=1e-12
    )


def test_targets_in_place_are_counted_too():
    in_place = dataclasses.replace(asked([1, 3, 0], [1, 1, 0]), places_BM=None)
    counts = np.array([0, 3, 0, 2, 0])
    assert unigram_cross_entropy(counts, [in_place]) == unigram_cross_entropy(
        counts, [asked([1, 3, 0], [1, 1, 0])]
    )
