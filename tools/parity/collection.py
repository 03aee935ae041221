"""All cases. In: the files of cases/. Out: a list of Case, by family."""

import importlib
import pathlib

from tools.parity.case import Case


def cases() -> list[Case]:
    """Every family's."""
    names = sorted(p.stem for p in (pathlib.Path(__file__).parent / "cases").glob("[a-z]*.py"))
    return [case for name in names for case in importlib.import_module(f"tools.parity.cases.{name}").CASES]
