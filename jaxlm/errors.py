"""The errors a user meets. In: what went wrong, where, what is allowed. Out: a message without a stack trace.

Entry points print a `UserError` as one message and exit with 78 (configuration or input is wrong), and a
`NumericalError` with 70. Anything else is a bug of ours and keeps its stack trace.
"""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

EXIT_DONE = 0
EXIT_NUMERICAL = 70
EXIT_RESUMABLE = 75
EXIT_USER = 78


class UserError(ValueError):
    """Something the user can fix: the message says what, where, what is allowed, and the fix."""


class Damaged(ValueError):
    """What is wrong with a file that is being read; `reading` says which file it is."""


class NumericalError(ArithmeticError):
    """What is computed is wrong: too many non-finite steps in a row, or documents of a row that see each other."""


def check_text(text: str, where: str) -> None:
    """UserError for an argument of a command line whose bytes are no text in the locale of the process."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {text!a} is not text in this locale. Fix: write UTF-8, and set PYTHONUTF8=1."
        ) from error


@contextlib.contextmanager
def reading(where: str, problem: str = "cannot be read", fix: str = "Fetch it again.") -> Iterator[None]:
    """The one boundary around a reader of foreign files: whatever a parser raises becomes a UserError that names them.

    A panic of a library written in Rust is no Exception. Ctrl-C, the end of the process and a UserError pass.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        detail = str(error)
        if isinstance(error, OSError) and error.strerror:
            problem, detail = "cannot be read", error.strerror
        elif not isinstance(error, Damaged):
            detail = f"{type(error).__name__}: {detail}"
        raise UserError(f"{where}: {problem}: {detail[:300]}. {fix}") from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean "x"?' for the closest known word, or '' when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""


def check_pattern(pattern: str, where: str) -> None:
    """UserError unless it is a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"{where}={pattern!r} is not a regular expression: {error}.") from error
