"""Claims: a value out of bounds is refused with its path, the value, what is allowed and the fix."""

import pytest

from jaxlm.errors import UserError
from jaxlm.optim import bounds


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), float("inf"), "0.9", True, None])
def test_number_outside_is_refused(value):
    with pytest.raises(UserError, match=r"optimizer\.b1=.*at least 0 and below 1\. Use 0\.9\."):
        bounds.check_number(value, "optimizer.b1", low=0, high=1, strict=True, fix="Use 0.9.")


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1])
def test_number_inside_passes(value):
    bounds.check_number(value, "x", low=0, high=1, fix="")


@pytest.mark.parametrize("value", [0, -1, float("nan"), "1"])
def test_positive_refuses_zero_and_below(value):
    with pytest.raises(UserError, match="above 0"):
        bounds.check_positive(value, "x", fix="")


def test_choice_suggests_the_closest():
    with pytest.raises(UserError, match=r'must be one of "linear", "cosine".* Did you mean "linear"'):
        bounds.check_choice("linaer", "schedule.shape", ("linear", "cosine"))
