"""Words with their tags, a word a line, a blank line between two sentences. In: a .conll or .conllu file. Out: rows.

`.conll`: columns between spaces or tabs, the word first, its tag last: {"tokens": [...], "tags": [...]}; lines of
-DOCSTART- are left out. `.conllu` (universaldependencies.org/format): ten columns between tabs, by their names below;
comments, words of several tokens (1-2) and empty nodes (8.1) are left out.
"""

from collections.abc import Iterator

from jaxlm.data.corpus import lines
from jaxlm.errors import UserError

KINDS = (".conll", ".conllu")
_UNIVERSAL = ("tokens", "lemmas", "upos", "xpos", "feats", "heads", "deprels")  # columns 2 to 8
Row = dict[str, list[str]]


def read(path: str, universal: bool) -> Iterator[tuple[int, Row]]:
    """(number of its first line, {column: a value for every word}) of every sentence."""
    sentence: list[tuple[str, ...]] = []
    first = width = 0
    for number, line in lines.numbered(path):
        if line.strip():
            if universal and line.startswith("#"):
                continue
            cells = _cells(line, universal)
            if not cells:
                continue
            width = width or len(cells)
            if len(cells) != width or width < 2 or (universal and width != 10):
                raise _damaged(path, number, len(cells), width, universal)
            first = first if sentence else number
            sentence.append(cells[1:8] if universal else (cells[0], cells[-1]))
        elif sentence:
            yield first, _row(sentence, universal)
            sentence = []
    if sentence:
        yield first, _row(sentence, universal)


def _cells(line: str, universal: bool) -> tuple[str, ...]:
    """Of a line; () for one that is no word."""
    text = line.rstrip("\r\n")
    cells = tuple(cell.strip() for cell in text.split("\t")) if "\t" in text else tuple(text.split())
    if cells[0] == "-DOCSTART-" or (universal and len(cells) == 10 and not cells[0].isdecimal()):
        return ()
    return cells


def _row(sentence: list[tuple[str, ...]], universal: bool) -> Row:
    names = _UNIVERSAL if universal else ("tokens", "tags")
    return {name: list(column) for name, column in zip(names, zip(*sentence, strict=True), strict=True)}


def _damaged(path: str, number: int, found: int, width: int, universal: bool) -> UserError:
    allowed = "ten columns between tabs" if universal else f"{max(width, 2)} columns, as in its first line"
    if width < 2:
        allowed = "a word, and its tag behind a space or tab"
    return UserError(
        f"{path}:{number}: {found} column{'s' * (found != 1)}; every line has {allowed}, and a blank line stands "
        "between two sentences. Repair or remove the line."
    )
