"""Runs a command's main function. In: main(argv) -> exit code. Out: the process ends with a documented code.

0 done; 70 numerical failure; 75 saved and resumable; 78 the configuration or input is wrong. A UserError is printed
as its message, without a stack trace, and so is memory that does not suffice; anything else is a bug of ours and keeps
it.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from jaxlm.errors import EXIT_NUMERICAL, EXIT_USER, NumericalError, UserError
from jaxlm.runtime import memory


def run(main: Callable[[Sequence[str]], int], *, when_out_of_memory: str = "") -> NoReturn:
    """Calls `main(sys.argv)` and exits. `when_out_of_memory`: what a user can do about it."""
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
    except Exception as error:
        if not _out_of_memory(error):
            raise
        said = (str(error).strip() or "the host has no more").splitlines()[0]
        print(f"error: out of memory: {said}\n{when_out_of_memory}".rstrip(), file=sys.stderr)
        code = EXIT_USER
    sys.exit(code)


def _out_of_memory(error: Exception) -> bool:
    """JAX has no class of its own for it; the status is the same on all platforms, while compiling and running."""
    status = type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
    return status or isinstance(error, MemoryError)
