"""Every family against transformers, on the cases of tools/parity: the same weights give the same numbers and files."""

import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

from tools.parity.checks import CHECKS, LIMITS
from tools.parity.collection import cases

# Their cases differ in windows, positions or rotations: each is packed and unrolled for itself.
ATTEND_OTHERWISE = {"llama", "modernbert", "roberta"}


def rows():
    """(case, check). Slow: five steps, and other layouts of the same attention, of a family's further cases."""
    families = set()
    for case in cases():
        repeated = {"five_steps"} if case.family in ATTEND_OTHERWISE else {"five_steps", "variants"}
        for check in CHECKS:
            slow = case.family in families and check in repeated
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(case, check, id=f"{case.name}-{check}", marks=marks)
        families.add(case.family)


@pytest.mark.parametrize(("case", "check"), rows())
def test_the_same_weights_give_the_same_numbers(case, check):
    for what, found in CHECKS[check](case).items():
        assert found <= LIMITS[what], f"{case.name}: {what} differ by {found:.1e}, allowed {LIMITS[what]:.0e}"
