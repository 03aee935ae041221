"""What a page of the documentation tells its reader to type. In: its Markdown. Out: files and commands, in order.

The kind of a fence decides. `bash`: every line is a command, to be read. `console`: a transcript, of which `$ ` begins a
command and the lines below it are what it printed; those of a page can be typed one after the other in an empty folder.
A command ended with 0, unless `$ echo $?` and a number stand below it. A fence with `title="NAME"` is that file.
"""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file that the page shows, and its reader has."""

    name: str
    text: str

    def write(self, folder: pathlib.Path) -> None:
        """Puts it there."""
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A line for a shell."""

    line: str
    shown: tuple[str, ...] = ()  # what the page says it printed
    code: int = 0  # how it ended
    transcript: bool = False  # of a console: it can be typed as it stands

    def parts(self) -> list[list[str]]:
        """The words of every command of the line, without comments and what is behind `<` and `>`."""
        lexer = shlex.shlex(self.line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        found: list[list[str]] = [[]]
        redirected = False
        for word in lexer:
            if set(word) <= set("&|;"):
                found.append([])
            elif set(word) <= set("&|;<>"):
                redirected = True
            elif redirected:
                redirected = False
            else:
                found[-1].append(word)
        return [words for words in found if words]

    def verbs(self) -> Iterator[tuple[str, list[str]]]:
        """(verb of jaxlm or module of a former door `jaxlm.NAME`, the words behind it)."""
        for words in self.parts():
            for i, word in enumerate(words):
                first = all("=" in before for before in words[:i])
                if re.fullmatch(r"(.*/)?jaxlm", word) and (first or words[i - 1] == "-m"):
                    yield words[i + 1], words[i + 2 :]
                elif re.fullmatch(r"jaxlm\.\w+", word) and words[i - 1] == "-m":
                    yield word, words[i + 1 :]


def read(text: str) -> list[File | Command]:
    """The files and commands of a page."""
    found: list[File | Command] = []
    for kind, head, body in _FENCE.findall(text):
        title = re.search(r'title="([^"]+)"', head)
        if title:
            found.append(File(name=title[1], text=body))
        elif kind == "bash":
            found += [Command(line=line) for line in _lines(body)]
        elif kind == "console":
            found += _transcript(_lines(body))
    return found


def _lines(body: str) -> list[str]:
    return body.replace("\\\n", " ").splitlines()


def _transcript(lines: list[str]) -> list[Command]:
    found: list[Command] = []
    asked = False
    for line in lines:
        if asked:
            found[-1] = dataclasses.replace(found[-1], code=int(line))
            asked = False
        elif line.strip() == "$ echo $?":
            asked = True
        elif line.startswith("$ "):
            found.append(Command(line=line[2:], transcript=True))
        elif found:
            found[-1] = dataclasses.replace(found[-1], shown=(*found[-1].shown, line))
    return found
