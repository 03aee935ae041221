"""Every family against transformers, on the cases of tools/parity: the same weights give the same numbers and files."""

import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

from tools.parity.checks import CHECKS, LIMITS
from tools.parity.collection import cases


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_same_weights_give_the_same_numbers(case, check):
    for what, found in CHECKS[check](case).items():
        assert found <= LIMITS[what], f"{case.name}: {what} differ by {found:.1e}, allowed {LIMITS[what]:.0e}"
