"""Lines of a corpus file. In: a path. Out: numbered lines of text, none of which can fill the memory.

A byte order mark at the beginning of a line is left out; what is not UTF-8 is a UserError with file and line.
"""

import codecs
from collections.abc import Iterator
from functools import partial

from jaxlm.data.corpus import files
from jaxlm.errors import UserError

# A single document beyond this is a file without separators, not a document.
LONGEST_DOCUMENT = 256 * 2**20


def numbered(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of every line. UserError for one that does not end, before it fills the memory."""
    with files.opened(path) as stream:
        for number, raw in enumerate(iter(partial(stream.readline, LONGEST_DOCUMENT + 1), b""), 1):
            check_length(len(raw), path, number)
            yield number, decoded(raw, path, number)


def decoded(raw: bytes, path: str, number: int) -> str:
    """The text of some bytes; UserError for what is not UTF-8."""
    try:
        # Not only at the beginning: `cat` of several files leaves their marks in the middle.
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        where = f"{path}:{number}" if number else path
        raise UserError(f"{where}: not UTF-8 text ({error.reason}). Convert the file to UTF-8.") from error


def check_length(size: int, path: str, number: int) -> None:
    """UserError for a line or document of more bytes than one may have."""
    if size > LONGEST_DOCUMENT:
        raise UserError(
            f"{path}:{number}: one line or document of more than {LONGEST_DOCUMENT >> 20} MiB. Separate the documents "
            "of a text file with blank lines, or use JSONL."
        )
