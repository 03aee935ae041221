"""Claims about translation's settings; its rows are in tests/data/test_translations.py."""

import dataclasses

import pytest

from jaxlm.errors import UserError
from jaxlm.objectives.translation import Translation
from tests.objectives import passages as made

OBJECTIVE = Translation(z_loss=0.0, label_smoothing=0.1, decoder_start="bos", pairs_per_row=3)


def test_settings_that_cannot_work_are_user_errors():
    OBJECTIVE.validate("objective")
    OBJECTIVE.check(made.VOCABULARY)
    with pytest.raises(UserError, match=r"objective\.pairs_per_row=0"):
        dataclasses.replace(OBJECTIVE, pairs_per_row=0).validate("objective")
    with pytest.raises(UserError, match="no bos"):
        OBJECTIVE.check(dataclasses.replace(made.VOCABULARY, bos=-1))
    assert OBJECTIVE.needs_sentences and OBJECTIVE.plan_length(17) == 34
