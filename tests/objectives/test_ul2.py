import dataclasses

import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.objectives import ul2
from jaxlm.objectives.ul2 import MixtureOfDenoisers
from tests.objectives import passages as made

MODES = dict(zip(made.SENTINELS[-3:], "RXS", strict=True))


def objective(form="encoder_decoder", denoisers=None):
    return MixtureOfDenoisers(
        z_loss=0.0,
        label_smoothing=0.0,
        denoisers=ul2.published() if denoisers is None else denoisers,
        form=form,
        decoder_start="pad",
    )


def parts_of(objective, fields):
    """(mode, source, target) of every segment."""
    for source, inputs, targets, prefix in made.decoded(fields):
        if objective.form == "decoder":
            length = int(prefix.sum())
            assert (prefix[:length] == 1).all() and (targets[: length - 1] == -1).all()
            source, target = inputs[:length], targets[length - 1 :]
            assert inputs[length:].tolist() == target[:-1].tolist()
        else:
            target = targets
            assert inputs.tolist() == [made.PAD, *targets[:-1]]
        assert source[-1] == target[-1] == made.EOS
        yield MODES[source[0]], source[1:-1], target[:-1]


@pytest.mark.parametrize("form", ["encoder_decoder", "decoder"])
def test_every_row_fits_whatever_is_drawn_and_every_text_can_be_put_together_again(form):
    mixture, rng, modes = objective(form), np.random.default_rng(0), []
    for seed in range(400):
        sizes = made.row_lengths(mixture, 131, rng, int(rng.integers(1, 7)))
        texts = {tuple(text.tolist()) for text in made.texts_of(sizes, seed)}
        fields = made.prepare(mixture, made.texts_of(sizes, seed), 131, seed)
        found = list(parts_of(mixture, fields))
        assert len({mode for mode, _, _ in found}) <= 1
        for mode, source, target in found:
            assert tuple(made.without_sentinels(source, target)) in texts
            modes.append(mode)
            if mode == "S":
                assert source[-1] == target[0] == made.SENTINELS[0]
    assert {"R", "X", "S"} == set(modes)


def test_every_denoiser_is_as_likely_and_hides_its_share():
    text = made.texts_of((300,))
    for denoiser in ul2.published():
        alone = objective(denoisers=(denoiser,))
        shares = []
        for seed in range(150):
            ((mode, _, target),) = parts_of(alone, made.prepare(alone, text, 310, seed))
            marks = sum(t in made.SENTINELS for t in target.tolist())
            shares.append((len(target) - marks) / 300)
            assert mode == denoiser.mode
            if mode != "S":
                assert marks == max(round(300 * denoiser.density / denoiser.mean_span), 1)
        assert abs(np.mean(shares) - denoiser.density) < 0.02
    mixture = objective()
    drawn = [next(parts_of(mixture, made.prepare(mixture, text, 330, seed)))[0] for seed in range(1000)]
    for mode, share in (("R", 2 / 7), ("X", 4 / 7), ("S", 1 / 7)):
        assert abs(drawn.count(mode) / 1000 - share) < 4 * np.sqrt(share * (1 - share) / 1000)


def test_what_cannot_work_is_a_user_error():
    with pytest.raises(UserError, match="denoisers is empty"):
        objective(denoisers=()).validate("objective")
    few = dataclasses.replace(made.VOCABULARY, sentinels=made.SENTINELS[:3])
    with pytest.raises(UserError, match="the tokenizer has 3"):
        objective().check(few)
    objective().check(made.VOCABULARY)
    objective().check_length(300, made.VOCABULARY, "config.stages[0].length")
    with pytest.raises(
        UserError, match=r"config\.stages\[0\]\.length=400: .*density 0\.5 and mean span 3\.0.*there are 57"
    ):
        objective().check_length(400, made.VOCABULARY, "config.stages[0].length")
    with pytest.raises(UserError, match="density=0.7: of S"):
        ul2.Denoiser(mode="S", density=0.7, mean_span=1.0).validate("objective.denoisers[0]")
