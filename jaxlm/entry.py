"""Runs a command's main function. In: main(argv) -> exit code. Out: the process ends with a documented code.

0 done; 70 numerical failure; 75 saved and resumable; 78 the configuration or input is wrong. A UserError is printed
as its message, without a stack trace, and so is memory that does not suffice; anything else is a bug of ours and keeps
it.
"""

import argparse
import io
import os
import pathlib
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


_AXES = {
    "data": "share the rows, each with all weights; default: the rest",
    "fsdp": "share rows and weights; default: all devices, if no size is given",
    "tensor": "share heads, MLP and vocabulary",
}


def add_model(parser: argparse.ArgumentParser, what: str) -> None:
    """The options that name a model and its weights, which `infer.loaded.of_options` reads; `what` it must be."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--run", type=pathlib.Path, help=f"run folder or model folder of {what}")
    where.add_argument(
        "--hf", help="Hugging Face folder, .gguf file, or the name of a model in the local cache"
    )
    add = parser.add_argument
    add("--step", type=int, help="checkpoint of a run to use; default: the best, else the newest")
    add("--base", default="", metavar="DIR", help="of a run with a view: where its frozen weights are now")
    add("--config", metavar="RECIPE", help="recipe of a run with classes of its own; it is executed")
    add(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of weights and computation; bfloat16 takes half the memory; default: float32",
    )
    for axis, role in _AXES.items():
        add(f"--mesh.{axis}", type=int, metavar="N", help=f"devices that {role}; -1: the rest")


def lines(path: pathlib.Path | None, flag: str) -> list[str]:
    """The lines of a text file that are not blank; none without a file. `flag` names it in the UserError."""
    if path is None:
        return []
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{flag}={path}: cannot be read as UTF-8 text: {error}.") from error
