import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.objectives.prefix_lm import PrefixLM
from tests.objectives import passages as made


def objective(shortest=0.0, longest=1.0):
    return PrefixLM(z_loss=0.0, label_smoothing=0.0, shortest=shortest, longest=longest)


def test_prefix_and_targets_together_are_the_passage_and_nothing_seen_is_predicted():
    texts = made.texts_of((17, 1, 9))
    for seed in range(50):
        row = made.prepare(objective(), texts, 37, seed, labels=[made.EOS, 99, made.EOS])
        for text, label, (_, inputs, targets, prefix) in zip(
            texts, (made.EOS, 99, made.EOS), made.decoded(row), strict=True
        ):
            assert inputs.tolist() == [made.BOS, *text]
            length = int(prefix.sum())
            assert prefix.tolist() == [1] * length + [0] * (len(inputs) - length) and length >= 1
            # The prefix's last token predicts the suffix's first, which is not in the prefix.
            assert targets.tolist() == [-1] * (length - 1) + [*text[length - 1 :], label]
        assert not row.prefix_BT[row.segments_BT == 0].any()


def test_prefix_lengths_are_uniform_between_the_bounds():
    text = made.texts_of((101,))
    lengths = [
        int(made.prepare(objective(0.2, 0.6), text, 103, seed).prefix_BT.sum()) - 1 for seed in range(800)
    ]
    assert min(lengths) >= 20 and max(lengths) <= 61
    assert abs(np.mean(lengths) - 0.4 * 101) < 5 * 0.4 * 101 / np.sqrt(12 * 800)
    assert len(set(lengths)) > 35
    assert objective().validate("objective") is None
    with pytest.raises(UserError, match="shortest=0.5 and longest=0.4"):
        objective(0.5, 0.4).validate("objective")
