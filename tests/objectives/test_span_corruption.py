import itertools

import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.objectives import spans
from jaxlm.objectives.span_corruption import SpanCorruption, sizes
from tests.objectives import passages as made


def objective(density=0.15, mean_span=3.0, start="pad"):
    return SpanCorruption(
        z_loss=0.0, label_smoothing=0.0, density=density, mean_span=mean_span, decoder_start=start
    )


def test_rows_are_planned_as_published():
    t5 = objective()
    # google-research/text-to-text-transfer-transformer, random_spans_helper: 512 -> (568, 114)
    assert t5.plan_length(512) - t5.overhead == 568 and sizes(568, 0.15, 3.0) == (512, 114)
    fields = made.prepare(t5, made.texts_of((568,)), 512)
    assert fields["source_tokens_BS"].shape == (512,) and fields["tokens_BT"].shape == (114,)
    assert (fields["source_segments_BS"] > 0).all() and (fields["weights_BM"] == 1).all()
    assert t5.predictions(t5.plan_length(512), train=True) == 114


@pytest.mark.parametrize("start", ["pad", "bos", "eos"])
def test_source_and_targets_together_are_the_text(start):
    texts = made.texts_of((97, 50, 31))
    for seed in range(60):
        fields = made.prepare(objective(start=start), texts, 181, seed)
        assert len(made.decoded(fields)) == 3
        for text, (source, inputs, targets, _) in zip(texts, made.decoded(fields), strict=True):
            assert inputs.tolist() == [getattr(made.VOCABULARY, start), *targets[:-1]]
            assert source[-1] == targets[-1] == made.EOS
            assert made.without_sentinels(source[:-1], targets[:-1]) == text.tolist()
            marks = [t for t in source.tolist() if t in made.SENTINELS]
            assert (
                marks
                == [t for t in targets.tolist() if t in made.SENTINELS]
                == list(made.SENTINELS[: len(marks)])
            )


@pytest.mark.parametrize(
    "density,mean_span", [(0.15, 3.0), (0.5, 3.0), (0.15, 8.0), (0.5, 64.0), (0.6, 2.0), (0.05, 2.0)]
)
def test_whatever_the_plan_puts_into_a_row_fits(density, mean_span):
    rng = np.random.default_rng(1)
    made_for = objective(density, mean_span)
    for seed in range(250):
        parts = made.row_lengths(made_for, 67, rng, int(rng.integers(1, 9)))
        fields = made.prepare(
            made_for, made.texts_of(parts, seed), 67, seed
        )  # lay_out refuses what does not fit
        assert fields["source_tokens_BS"].shape[0] <= 67
        left_out = len(parts) - len(made.decoded(fields))
        assert left_out == 0 or min(parts) < 2.0 * mean_span / density
    for tiny in ([1], [1, 1, 1], [2], [1, 2, 1], []):
        made.prepare(made_for, made.texts_of(tiny), 67)


def test_hidden_tokens_of_a_packed_row_are_those_of_one_text():
    rng = np.random.default_rng(2)
    for room_is in ("ample", "planned"):
        total, hidden, number, bare = 0, 0, 0, 0
        for _ in range(300):
            parts = np.array([int(n) for n in rng.integers(4, 80, 5)])
            room = (10_000, 10_000) if room_is == "ample" else sizes(int(parts.sum()) + 4 * 5, 0.15, 3.0)
            a, b = spans.share_out(parts, 0.15, 3.0, room, rng)
            assert ((a >= b) & (a + b <= parts) & ((a > 0) == (b > 0))).all()
            total, hidden, number = total + parts.sum(), hidden + a.sum(), number + b.sum()
            bare += (b == 0).sum()
        assert abs(hidden / total - 0.15) < 0.003
        if room_is == "ample":
            assert bare == 0 and 2.5 < hidden / number < 3.0  # short segments have a span too
        else:
            assert bare / 1500 < 0.1 and 2.8 < hidden / number < 3.1


def test_masks_are_uniform_over_all_ways_to_cut_a_text():
    rng, seen = np.random.default_rng(0), {}
    for _ in range(6000):
        mask = spans.noise_mask(9, 4, 2, rng)
        seen[tuple(mask.tolist())] = seen.get(tuple(mask.tolist()), 0) + 1
    # T5: seen and hidden runs alternate, the first is seen, all have at least one token
    ways = {
        (False,) * a + (True,) * b + (False,) * (5 - a) + (True,) * (4 - b)
        for a, b in itertools.product(range(1, 5), range(1, 4))
    }
    assert set(seen) == ways
    assert np.abs(np.array(list(seen.values())) / 6000 - 1 / 12).max() < 5 * np.sqrt(1 / 12 / 6000)


def test_a_length_is_allowed_when_one_text_that_fills_a_row_has_sentinels_enough():
    for density, mean_span in ((0.15, 3.0), (0.5, 2.0), (0.8, 1.0)):
        made_for = objective(density, mean_span)
        allowed = 20
        with pytest.raises(UserError, match="sentinels"):
            while True:
                made_for.check_length(allowed + 1, made.VOCABULARY, "length")
                allowed += 1
        longest, beyond = (made_for.plan_length(n) - made_for.overhead for n in (allowed, allowed + 1))
        made.prepare(made_for, made.texts_of((longest,)), allowed)
        # One more than allowed has a span without a sentinel.
        assert spans.counts(beyond, density, mean_span)[1] > len(made.SENTINELS)


def test_too_few_sentinels_and_bad_settings_are_user_errors():
    with pytest.raises(UserError, match=r"stages\[1\]\.length=300: .* needs \d+ sentinels; there are 60"):
        objective(0.5, 1.0).check_length(300, made.VOCABULARY, "config.stages[1].length")
    for kwargs, message in (({"density": 0.0}, "density=0.0"), ({"mean_span": 0.5}, "mean_span=0.5")):
        with pytest.raises(UserError, match=message):
            objective(**kwargs).validate("objective")
