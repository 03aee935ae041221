"""Converts weights between Hugging Face folders and jaxlm, both ways, and compares folders.

    python -m jaxlm.convert_checkpoint from_hf DIR OUT [--check] [--allow-pickle=weights-only]
    python -m jaxlm.convert_checkpoint to_hf RUN DIR [--check] [--step=N] [--dtype=float32] [--shard-size=5GB]
    python -m jaxlm.convert_checkpoint check A B

DIR is a folder that transformers reads (or a .gguf file, or the name of a model in the local cache of the hub; nothing
is downloaded), OUT a model folder, RUN a run folder or a model folder. Exit code 0, or 78 with the reason.
"""

import argparse
import pathlib
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.errors import EXIT_DONE, EXIT_USER, UserError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def main(argv: Sequence[str]) -> int:
    """Runs one of the three commands."""
    options = _parser().parse_args(list(argv[1:]))
    signal.signal(
        signal.SIGTERM, lambda number, _: sys.exit(128 + number)
    )  # so that nothing half written stays
    from jaxlm.config import flags  # after parsing, so that --help answers at once
    from jaxlm.data.places import expanded
    from jaxlm.exchange import check, exporting, importing

    if getattr(options, "config", None):
        flags.load(options.config)
    if options.command == "check":
        return _compare(check, options.a, options.b, options.allow_pickle, options)
    source, target = options.source, expanded(options.target)
    if options.command == "from_hf":
        importing.from_hf(source, target, say=print, allow_pickle=options.allow_pickle)
    else:
        exporting.to_hf(
            expanded(source),
            target,
            say=print,
            step=options.step,
            dtype=options.dtype,
            shard_bytes=_bytes(options.shard_size),
            pooling=options.pooling,
            base=options.base,
        )
    if options.check:
        return _compare(check, source, str(target), getattr(options, "allow_pickle", "refuse"), options)
    return EXIT_DONE


def _compare(check, a: str, b: str, allow_pickle: str, options: argparse.Namespace) -> int:
    finding = check.compare(a, b, allow_pickle=allow_pickle, base=getattr(options, "base", ""))
    print("\n".join(finding.lines))
    print("the same model" if finding.same else "NOT the same model")
    return EXIT_DONE if finding.same else EXIT_USER


def _bytes(text: str | None) -> int | None:
    """'5GB' -> 5 * 10**9."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?i?B?)", text, re.IGNORECASE)
    if match is None or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise UserError(f"--shard-size={text}: a size such as 5GB, 500MB or 2GiB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxlm.convert_checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    arrive = commands.add_parser("from_hf", help="a Hugging Face folder becomes a model folder")
    arrive.add_argument("source", metavar="DIR")
    arrive.add_argument("target", metavar="OUT", type=pathlib.Path)
    _add_pickles(arrive)
    leave = commands.add_parser("to_hf", help="a run or model folder becomes a Hugging Face folder")
    leave.add_argument("source", metavar="RUN")
    leave.add_argument("target", metavar="DIR", type=pathlib.Path)
    leave.add_argument("--step", type=int, help="of a run; default: the best, else the newest")
    leave.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16", "source"],
        help="default: float32 of a run, source (as it came in) of a model folder",
    )
    leave.add_argument("--shard-size", help="largest file of weights; default 5GB, or as it came in")
    leave.add_argument(
        "--pooling", choices=["cls", "mean", "cls_mlp"], help="add sentence-transformers' files"
    )
    leave.add_argument(
        "--base", default="", metavar="DIR", help="where the frozen weights of a run with a view are now"
    )
    leave.add_argument("--config", metavar="RECIPE", help="of a run with classes of its own; it is executed")
    for command in (arrive, leave):
        command.add_argument("--check", action="store_true", help="compare both sides afterwards")
    both = commands.add_parser("check", help="compare two folders of any kind")
    both.add_argument("a", metavar="A")
    both.add_argument("b", metavar="B")
    both.add_argument("--config", metavar="RECIPE", help="of a run with classes of its own; it is executed")
    _add_pickles(both)
    return parser


def _add_pickles(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allow-pickle",
        choices=["refuse", "weights-only"],
        default="refuse",
        help="read pytorch_model.bin: names and tensors are taken from it without running the program that it is",
    )


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
