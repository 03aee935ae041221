"""Claims about the boundary around readers of foreign files."""

import pytest

from jaxlm.errors import Damaged, UserError, reading


def refusal(error: BaseException) -> str:
    with pytest.raises(UserError) as caught, reading("a.bin", "not a readable file", "Fetch it."):
        raise error
    return str(caught.value)


def test_whatever_a_parser_raises_names_the_file_and_the_fix():
    assert refusal(Damaged("it is cut")) == "a.bin: not a readable file: it is cut. Fetch it."
    assert refusal(KeyError("w")) == "a.bin: not a readable file: KeyError: 'w'. Fetch it."
    assert (
        refusal(PermissionError(13, "Permission denied"))
        == "a.bin: cannot be read: Permission denied. Fetch it."
    )
    assert len(refusal(ValueError("x" * 10**6))) < 400


def test_a_refusal_and_the_end_of_the_process_pass_as_they_are():
    assert refusal(UserError("b.bin: said already")) == "b.bin: said already"
    for stop in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(stop), reading("a.bin"):
            raise stop
