"""Conversations that are already on the machine: 'builtin:pychats', for trying fine-tuning out offline.

In: the functions of the Python standard library, read with `ast`, never imported. Out: one question each, what the
function does, with the first paragraph of its docstring as the answer; or, where two answers are compared, with that of
another function as the rejected one. Collected once and cached, keyed by every file's path and size.
"""

import ast
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxlm.data.corpus import builtin
from jaxlm.data.corpus.columns import Wanted

NAME = "builtin:pychats"
FORMAT = 1
LONGEST_ANSWER = 240  # characters


class PyChats(builtin.Table):
    """Questions about functions, and their docstrings: rows that are read as a conversation and as two answers."""

    name, file = "pychats", "chats.jsonl"

    def __init__(self, cache: str | os.PathLike[str], log: Callable[[str], None], wanted: Wanted):
        files = [file for file in builtin.source_files() if file[0].startswith("python/")]
        super().__init__(cache, log, files, FORMAT, wanted)

    def rows(self) -> Iterator[builtin.Row]:
        found = [one for _, path, _ in self.files for one in _asked_of_file(path)]
        found = list({answer: (question, answer) for question, answer in found}.values())
        for (question, answer), (_, other) in zip(found, found[-1:] + found[:-1], strict=True):
            said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            yield {"messages": said, "prompt": question, "chosen": answer, "rejected": other}


def _asked_of_file(path: str) -> Iterator[tuple[str, str]]:
    try:
        source = Path(path).read_text(encoding="utf-8")
        yield from asked(source) if '"""' in source else ()
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return


def asked(source: str) -> Iterator[tuple[str, str]]:
    """(question, answer) of every function and method of a source text that has a docstring."""
    for node in ast.walk(builtin.parsed(source)):
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        answer = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        if len(answer) <= LONGEST_ANSWER and builtin.worth_reading(answer):
            arguments = ", ".join(one.arg for one in node.args.args if one.arg not in ("self", "cls"))
            yield f"What does {node.name}({arguments}) do?", answer
