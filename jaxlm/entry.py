"""Runs a command's main function. In: main(argv) -> exit code. Out: the process ends with a documented code.

0 done; 70 numerical failure; 75 saved and resumable; 78 the configuration or input is wrong. A UserError is printed
as its message, without a stack trace; anything else is a bug of ours and keeps it.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from jaxlm.errors import EXIT_NUMERICAL, EXIT_USER, NumericalError, UserError
from jaxlm.runtime import memory


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Calls `main(sys.argv)` and exits."""
    memory.keep_freed_memory()
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # what its encoding lacks is escaped, as on stderr, and not lost
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main(sys.argv)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_USER
    except NumericalError as error:
        print(f"numerical failure: {error}", file=sys.stderr)
        code = EXIT_NUMERICAL
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141  # what a shell reports for SIGPIPE: `... --explain | head`
    sys.exit(code)
