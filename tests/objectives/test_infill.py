import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.objectives.infill import FillInTheMiddle
from tests.objectives import passages as made


def objective(rate=0.5, psm_share=0.5):
    return FillInTheMiddle(z_loss=0.0, label_smoothing=0.0, rate=rate, psm_share=psm_share)


def undone(tokens):
    """(form, prefix, middle, suffix) of a cut text."""
    at = {mark: tokens.index(mark) for mark in (made.PREFIX, made.SUFFIX, made.MIDDLE)}
    assert at[made.PREFIX] == 0
    first, last = tokens[1 : at[made.SUFFIX]], tokens[at[made.SUFFIX] + 1 : at[made.MIDDLE]]
    rest = tokens[at[made.MIDDLE] + 1 :]
    return ("spm", rest, last) if at[made.SUFFIX] == 1 else ("psm", first, rest, last)


def test_the_text_can_be_put_together_again_and_all_of_it_is_predicted():
    texts = made.texts_of((19, 1, 6))
    labels = [made.EOS, 99, 98]
    forms = set()
    for seed in range(200):
        row = made.prepare(objective(), texts, 47, seed, labels)
        for text, label, (_, inputs, targets, _) in zip(texts, labels, made.decoded(row), strict=True):
            assert inputs[0] == made.BOS and targets[:-1].tolist() == inputs[1:].tolist()
            tokens = inputs[1:].tolist()
            if made.PREFIX not in tokens:
                assert tokens == text.tolist() and targets[-1] == label
                forms.add("plain")
                continue
            assert targets[-1] == made.EOS
            parts = undone(tokens)
            whole = [token for part in parts[1:] for token in part]
            assert whole == text.tolist()
            forms.add(parts[0])
    assert forms == {"plain", "psm", "spm"}


def test_rates_and_cuts_are_those_asked_for():
    text, runs = made.texts_of((23,)), 3000
    counts, cuts = {"plain": 0, "psm": 0, "spm": 0}, []
    for seed in range(runs):
        tokens = made.decoded(made.prepare(objective(0.7, 0.4), text, 29, seed))[0][1][1:].tolist()
        counts[undone(tokens)[0] if made.PREFIX in tokens else "plain"] += 1
        tokens = made.decoded(made.prepare(objective(1.0, 1.0), text, 29, seed))[0][1][1:].tolist()
        cuts.append(tokens.index(made.SUFFIX) - 1)
    # Two uniform places among 24: the lower one is u with probability (2 (23 - u) + 1) / 24^2.
    expected = (2 * (23 - np.arange(24)) + 1) / 24**2
    low = np.bincount(cuts, minlength=24) / runs
    assert np.abs(low - expected).max() < 4.5 * np.sqrt(0.08 * 0.92 / runs)
    # With an empty prefix the two orders are the same tokens, counted as spm.
    empty = expected[0]
    for form, share in (("plain", 0.3), ("psm", 0.28 * (1 - empty)), ("spm", 0.42 + 0.28 * empty)):
        assert abs(counts[form] / runs - share) < 4 * np.sqrt(share * (1 - share) / runs)


def test_a_planned_row_holds_every_piece_when_all_are_cut():
    rng = np.random.default_rng(0)
    for seed in range(100):
        sizes = made.row_lengths(objective(), 53, rng, int(rng.integers(1, 7)))
        made.prepare(objective(1.0), made.texts_of(sizes), 53, seed)
    with pytest.raises(UserError, match="objective.rate=1.2"):
        objective(1.2).validate("objective")
