import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.objectives import denoising
from jaxlm.objectives.denoising import Denoising
from tests.objectives import passages as made

BART = {"permute": 1.0, "rotate": 0.0, "infill": 0.3, "mean_span": 3.0, "mask": 0.0, "delete": 0.0}


def objective(**kwargs):
    return Denoising(z_loss=0.0, label_smoothing=0.0, decoder_start="eos", **{**BART, **kwargs})


def test_the_target_is_the_text_and_the_decoder_reads_it_one_later():
    rng = np.random.default_rng(0)
    for seed in range(60):
        sizes = made.row_lengths(objective(), 61, rng, int(rng.integers(1, 6)))
        texts = made.texts_of(sizes, seed)
        found = made.decoded(made.prepare(objective(mask=0.1, delete=0.1, rotate=0.5), texts, 61, seed))
        for text, (source, inputs, targets, _) in zip(texts, found, strict=True):
            assert targets.tolist() == [made.BOS, *text, made.EOS]
            assert inputs.tolist() == [made.EOS, made.BOS, *text]
            assert source[0] == made.BOS and source[-1] == made.EOS and len(source) <= len(text) + 2
            assert set(source[1:-1]) <= {*text.tolist(), made.MASK}


def test_infilling_hides_the_share_asked_for_in_spans_of_poisson_length():
    text = np.arange(10, 130, dtype=np.int32)  # all different: what is missing can be read off
    lengths, empty = [], 0
    for seed in range(1500):
        noisy = denoising.infilled(text, made.MASK, 0.3, 3.0, np.random.default_rng(seed)).tolist()
        kept = [t for t in noisy if t != made.MASK]
        assert kept == sorted(kept) and len(text) - len(kept) == 36 and len(noisy) <= len(text)
        borders = [9, *noisy, 130]
        for i, token in enumerate(borders):
            if token == made.MASK:
                assert borders[i - 1] != made.MASK and borders[i + 1] != made.MASK, "two spans touch"
                lengths.append(borders[i + 1] - borders[i - 1] - 1)
        empty += sum(length == 0 for length in lengths[-noisy.count(made.MASK) :])
    shares = np.bincount(lengths, minlength=12)[:12] / len(lengths)
    poisson = np.exp(-3.0) * np.cumprod([1.0, *(3.0 / k for k in range(1, 12))])
    # The last span of a text is cut, which moves a little mass to the short ones.
    assert np.abs(shares - poisson).max() < 0.03 and empty / len(lengths) > 0.03


def test_sentences_are_permuted_whole():
    text = np.array([50, 51, 7, 52, 8, 53, 54, 55, 7, 56], np.int32)
    sentences = [(50, 51, 7), (52, 8), (53, 54, 55, 7), (56,)]
    orders = set()
    for seed in range(300):
        tokens = denoising.permuted(text, made.STOPS, 1.0, np.random.default_rng(seed)).tolist()
        assert sorted(tokens) == sorted(text.tolist())
        order = sorted(range(4), key=lambda i: tokens.index(sentences[i][0]))
        assert [t for i in order for t in sentences[i]] == tokens
        orders.add(tuple(order))
    assert len(orders) == 24
    moved = [
        (denoising.permuted(text, made.STOPS, 0.5, np.random.default_rng(seed)) != text).any()
        for seed in range(300)
    ]
    assert 0.35 < np.mean(moved) < 0.65  # two of four are shuffled, half of the time to where they were


def test_rotation_masking_and_deletion():
    text = np.arange(10, 41, dtype=np.int32)
    only = lambda **kwargs: objective(**{"permute": 0.0, "infill": 0.0, **kwargs})
    starts = {
        int(only(rotate=1.0).damage(text, made.VOCABULARY, np.random.default_rng(s))[0]) for s in range(400)
    }
    assert starts == set(text.tolist())
    for seed in range(20):
        rng = np.random.default_rng(seed)
        turned = only(rotate=1.0).damage(text, made.VOCABULARY, rng).tolist()
        at = turned.index(10)
        assert turned[at:] + turned[:at] == text.tolist()
        masked = only(mask=0.2).damage(text, made.VOCABULARY, rng)
        assert (masked == made.MASK).sum() == 6 and (masked == text).sum() == 25
        fewer = only(delete=0.2).damage(text, made.VOCABULARY, rng).tolist()
        assert len(fewer) == 25 and fewer == [t for t in text.tolist() if t in fewer]
        assert len(only(delete=1.0).damage(text, made.VOCABULARY, rng)) == 1


def test_settings_that_cannot_work_are_user_errors():
    for kwargs, message in [
        ({"infill": 1.5}, "objective.infill=1.5"),
        ({"mean_span": 0.0}, "objective.mean_span=0.0"),
        ({"infill": 0.0, "permute": 0.0}, "nothing is damaged"),
    ]:
        with pytest.raises(UserError, match=message):
            objective(**kwargs).validate("objective")
    objective().validate("objective")
