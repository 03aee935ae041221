"""The corpus that is already on the machine: 'builtin:pydocs', technical English for trying things out offline.

In: the Python standard library, its help topics and the installed packages of `PACKAGES`, read with `ast` from their
source files, never imported. Out: about 13 MB of documents, one per module, function or class (with the docstrings of
its methods), in a fixed order, exact copies dropped. Collected once and cached, keyed by every file's path and size. A
column `label` says which package each is from ("python": the standard library).
"""

import ast
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from jaxlm.cached import Cache
from jaxlm.data import workers
from jaxlm.data.corpus import readers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.source import Source, first_bytes
from jaxlm.errors import UserError, did_you_mean

Row = dict[str, Any]  # of a table, by field
FORMAT = 4
NAMES = (
    *("pydocs", "pydocs_questions", "pydocs_summaries", "pydocs_names", "pychats"),
    *("pydocs_words", "pydocs_sections", "pydocs_alike", "pydocs_choices", "pydocs_relations"),
)
LABEL = "label"  # the column: which package a document is from
# What every installation of jaxlm has, without extras, so that the text does not change with them.
PACKAGES = (
    "numpy",
    "scipy",
    "jax",
    "flax",
    "optax",
    "orbax",
    "grain",
    "tensorstore",
    "ml_collections",
    "absl",
    "etils",
)
_SKIPPED = (
    "site-packages dist-packages __pycache__ test tests testing _vendor idlelib lib2to3 ensurepip encodings"
)
SKIPPED_FOLDERS = frozenset(_SKIPPED.split())
SHORTEST_WORDS = 8  # 'Return the foo.' teaches nothing
# Underlines of titles: 4 % of all tokens, every one foretold by the last, so that a loss would look better than it is.
RULER = re.compile(r"^[ \t]*([-=~^*#+_])\1{2,}[ \t]*\n?", re.MULTILINE)
SHARE_OF_LETTERS = 0.5  # below this a docstring is a table or a drawing
FILES_A_TASK = 100


def open_builtin(
    name: str, cache: str | os.PathLike[str], log: Callable[[str], None], labelled: bool = False
) -> Source:
    """The built-in corpus of that name, with its label or without. UserError for a name that does not exist."""
    if name != "pydocs":
        raise UserError(
            f'corpus "builtin:{name}": allowed: {", ".join(f"builtin:{one}" for one in NAMES)}.'
            f"{did_you_mean(name, NAMES)}"
        )
    return PyDocs(cache, log, labelled)


class Collected:
    """Documents that were once collected from source files, and are kept as a file of JSON lines."""

    name: str  # of its folder
    file: ClassVar[str]

    def __init__(
        self,
        cache: str | os.PathLike[str],
        log: Callable[[str], None],
        files: list[tuple[str, str, int]],
        version: int | tuple[int, ...],
    ) -> None:
        self.files = files
        listing = json.dumps([version, sys.version_info[:3], [(name, size) for name, _, size in files]])
        self.key = hashlib.sha256(listing.encode()).hexdigest()
        self.cache = Cache(Path(cache), log)

    def text_bytes(self) -> int:
        return self.path.stat().st_size

    def names(self) -> list[str]:
        return [str(self.path)]

    def records(self) -> Iterator[Record]:
        raise NotImplementedError

    def sample(self, limit: int) -> Iterator[Record]:
        return first_bytes(self.records(), limit)

    @functools.cached_property
    def path(self) -> Path:
        """The file, found or written now."""
        found = self.cache.find(f"corpora/{self.name}-{self.key[:12]}", self.key, self._collect)
        return found / self.file

    def _collect(self, folder: Path) -> None:
        raise NotImplementedError


class Table(Collected):
    """Rows that were collected, read as those of a file."""

    file = "rows.jsonl"

    def __init__(
        self,
        cache: str | os.PathLike[str],
        log: Callable[[str], None],
        files: list[tuple[str, str, int]],
        version: int | tuple[int, ...],
        wanted: Wanted,
    ) -> None:
        super().__init__(cache, log, files, version)
        self.wanted = wanted

    def identity(self) -> Any:
        return {"builtin": self.name, "key": self.key, **self.wanted.describe()}

    def records(self) -> Iterator[Record]:
        return readers.read(str(self.path), self.wanted)

    def rows(self) -> Iterator[Row]:
        """All of them, in a fixed order."""
        raise NotImplementedError

    def _collect(self, folder: Path) -> None:
        self.cache.say(f"builtin:{self.name}: made of {len(self.files):,} source files (once)")
        with open(folder / self.file, "w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows())


class PyDocs(Collected):
    """Docstrings and help topics of the installed Python packages."""

    name, file = "pydocs", "documents.jsonl"

    def __init__(self, cache: str | os.PathLike[str], log: Callable[[str], None], labelled: bool = False):
        super().__init__(cache, log, source_files(), FORMAT)
        self.labelled = labelled

    def identity(self) -> Any:
        return {"builtin": "pydocs", "key": self.key} | ({LABEL: True} if self.labelled else {})

    def records(self) -> Iterator[Record]:
        with open(self.path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                found = json.loads(line)
                yield Record((found["text"],), (found[LABEL],) if self.labelled else (), origin=(0, number))

    def _collect(self, folder: Path) -> None:
        self.cache.say(f"builtin:pydocs: reading the docstrings of {len(self.files):,} source files (once)")
        seen: set[bytes] = set()
        with open(folder / self.file, "w", encoding="utf-8") as stream:
            for text, label in _all_texts([(name.split("/")[0], path) for name, path, _ in self.files]):
                digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                if digest not in seen:
                    seen.add(digest)
                    stream.write(json.dumps({"text": text, LABEL: label}, ensure_ascii=False) + "\n")


def source_files() -> list[tuple[str, str, int]]:
    """(name within the package, path, bytes) of every source file, in a fixed order; missing packages are skipped."""
    roots = [("python", sysconfig.get_paths()["stdlib"])]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)  # does not import a top-level package
        roots += [(package, root) for root in sorted((spec and spec.submodule_search_locations) or [])]
    found = []
    for package, root in roots:
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(
                name for name in folders if name not in SKIPPED_FOLDERS and name[:7] != "config-"
            )
            for name in sorted(names):
                path = os.path.join(folder, name)
                if name.endswith(".py"):
                    found.append((f"{package}/{os.path.relpath(path, root)}", path, os.path.getsize(path)))
    return found


def _all_texts(paths: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    tasks = [paths[start : start + FILES_A_TASK] for start in range(0, len(paths), FILES_A_TASK)]
    processes = min(workers.count(None), 8)
    if processes == 1:
        for task in tasks:
            yield from texts_of_files(task)
        return
    with workers.pool(processes) as pool:
        for texts in pool.map(texts_of_files, tasks):
            yield from texts


def texts_of_files(paths: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """(document, label) of several source files, given as (label, path); files that do not parse give none."""
    texts = []
    for label, path in paths:
        try:
            source = Path(path).read_text(encoding="utf-8")
            if '"""' in source or "'''" in source:
                found = texts_of_source(source, topics="pydoc_data" in path)
                texts += [(text, label) for text in found]
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return texts


def texts_of_source(source: str, topics: bool = False) -> list[str]:
    """The documents of one source text. `topics`: also the values of a module-level dict (pydoc_data.topics)."""
    tree = parsed(source)
    groups = [[ast.get_docstring(tree)]]
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            groups.append(list(_docstrings(node)))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            groups += [[text] for text in _added_docs(node.value)]
        elif topics and isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            groups += [[inspect.cleandoc(text)] for text in _strings(node.value.values)]
    cleaned = ([RULER.sub("", text).strip() for text in group if text] for group in groups)
    texts = ("\n\n".join(filter(worth_reading, group)) for group in cleaned)
    return [text for text in texts if text]


def parsed(source: str) -> ast.Module:
    """The tree of a source text, without a word about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
        return ast.parse(source)


def _docstrings(node: Any) -> Iterator[str | None]:
    """Of a class with everything in its body, or of a function. Statements only: expressions hold no docstring."""
    yield ast.get_docstring(node)
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _docstrings(child)


def _added_docs(call: ast.Call) -> Iterator[str]:
    """numpy documents what is written in C with calls: add_newdoc(place, name, doc or (name, doc) or several)."""
    if isinstance(call.func, ast.Name) and call.func.id in ("add_newdoc", "add_newdoc_for_scalar_type"):
        for text in _strings(call.args):
            if "\n" in text:
                yield inspect.cleandoc(text)


def _strings(nodes: list[Any]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Tuple | ast.List):
            yield from _strings(node.elts)


def worth_reading(text: str) -> bool:
    """Whether it is some words, and no table or drawing."""
    if text.count(" ") + 1 < SHORTEST_WORDS:
        return False
    letters = sum(map(str.isalpha, text))
    return letters >= SHARE_OF_LETTERS * len(text.replace(" ", "").replace("\n", ""))
