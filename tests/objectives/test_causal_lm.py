import pytest

from jaxlm.errors import UserError
from jaxlm.objectives.causal_lm import CausalLM
from tests.objectives import passages as made

OBJECTIVE = CausalLM(z_loss=0.0, label_smoothing=0.0)


@pytest.mark.parametrize("sizes", [(30,), (7, 1, 12), (), (3, 5, 5, 9)])
def test_every_next_token_is_predicted_from_its_own_segment_only(sizes):
    texts = made.texts_of(sizes)
    labels = [made.EOS if i % 2 else 77 for i in range(len(sizes))]
    row = made.prepare(OBJECTIVE, texts, 41, labels=labels)
    found = made.decoded(row)
    assert len(found) == len(sizes) and row.tokens_BT.shape == row.targets.ids_BM.shape == (41,)
    for text, label, (_, inputs, targets, _) in zip(texts, labels, found, strict=True):
        assert inputs.tolist() == [made.BOS, *text]
        assert targets.tolist() == [*text, label]


def test_a_planned_row_is_full_with_its_bos_tokens():
    row = made.prepare(OBJECTIVE, made.texts_of((17, 20, 1)), 41)
    assert 17 + 20 + 1 + 3 * OBJECTIVE.overhead == 41 and (row.segments_BT > 0).all()


def test_settings_that_cannot_work_are_user_errors():
    for kwargs, message in [
        ({"z_loss": -1.0}, "objective.z_loss=-1.0"),
        ({"z_loss": float("nan")}, "objective.z_loss=nan"),
        ({"label_smoothing": 1.0}, "objective.label_smoothing=1.0"),
        ({"chunk": -3}, "objective.chunk=-3"),
    ]:
        with pytest.raises(UserError, match=message):
            CausalLM(**{"z_loss": 0.0, "label_smoothing": 0.0, **kwargs}).validate("objective")
    OBJECTIVE.validate("objective")
