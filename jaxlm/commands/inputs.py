"""What --input names: files, globs of them, several with commas between, here or in buckets. Out: files, or lines."""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from jaxlm.errors import UserError, check_text

if TYPE_CHECKING:
    from jaxlm.data.corpus.files import File

STDIN = "-"


def found(given: str) -> "list[File]":
    """The files, of each pattern by name. UserError where there are none."""
    from jaxlm.data.corpus import files  # after parsing, so that --help answers at once

    return files.named(given, _nothing)


def _nothing(given: str) -> str:
    return (
        f"--input={given}: cannot be read: no such file, and none matches it. Fix: a file, a glob such as "
        '"texts/*.txt", several with commas between, or a URL (s3://, gs://).'
    )


def passes(given: str) -> bool:
    """Whether it can be read once only: stdin, or a pipe."""
    path = pathlib.Path(given)
    return given == STDIN or (path.exists() and not path.is_file() and not path.is_dir())


def each_text(options: argparse.Namespace) -> Iterator[str]:
    """Texts of a command line, then those of its --input, perhaps none. UserError for one that cannot be read."""
    for text in itertools.chain(options.texts, lines(options.input)):
        check_text(text, "TEXT")
        yield text


def lines(given: str | None) -> Iterator[str]:
    """The lines that are not blank, of one file after the other; none without an --input."""
    if given is None:
        return
    from jaxlm.data.corpus import files

    if given == STDIN:
        yield from _of_stream(sys.stdin.buffer, given)
        return
    if passes(given):
        with open(given, "rb") as stream:
            yield from _of_stream(stream, given)
        return
    for file in found(given):
        with files.opened(file.path) as stream:
            yield from _of_stream(stream, file.path)


def _of_stream(stream: Iterable[bytes], name: str) -> Iterator[str]:
    for number, raw in enumerate(stream, 1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"--input={name}: cannot be read as UTF-8 text: line {number}: {error}."
            ) from error
        yield from (line for line in text.splitlines() if line.strip())
