"""Corpus files: find them, tell whether they changed, open them. In: a path, glob, folder or fsspec URL.

Out: a sorted list of `File`, and binary streams that are already decompressed (.gz, .zst, .bz2, .xz). Local files
and buckets (gs://, s3://, anything fsspec knows) behave the same. A damaged or truncated stream raises.
"""

import bz2
import contextlib
import dataclasses
import difflib
import glob
import gzip
import hashlib
import io
import lzma
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from jaxlm.buckets.bucket import filesystem, is_url
from jaxlm.errors import UserError, reading

# Typical text compresses 3 to 4 times; only used to size shards and to show progress.
INFLATION = {".gz": 4, ".zst": 4, ".bz2": 4, ".xz": 4, ".parquet": 3}
KINDS = (".txt", ".text", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".conll", ".conllu")
# Below this a corpus is known by the hash of its bytes (a fraction of a second), above by name, size and time.
HASHED_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """One file of a corpus. `stamp` changes when the file does."""

    path: str
    size: int
    stamp: str

    @property
    def text_bytes(self) -> int:
        """Estimate of the text inside, after decompression."""
        return self.size * INFLATION.get(suffixes(self.path)[1] or suffixes(self.path)[0], 1)


def suffixes(path: str) -> tuple[str, str]:
    """(kind, compression): 'a/b.jsonl.gz' → ('.jsonl', '.gz'); 'b.txt' → ('.txt', '')."""
    stem, last = os.path.splitext(path.lower())
    if last in INFLATION and last != ".parquet":
        return os.path.splitext(stem)[1], last
    return last, ""


def find(source: str) -> list[File]:
    """The files that a path, glob, folder or URL names, by path, or several such, with commas between, in their order.

    UserError when one names none.
    """
    found = named(source, _nothing_there)
    for file in found:
        if suffixes(file.path)[0] not in KINDS:
            raise UserError(
                f"corpus file {file.path}: unknown kind. Allowed: {', '.join(KINDS)}, each plain or with .gz, .zst, "
                ".bz2 or .xz behind it. Fix: save it as one of these (of a spreadsheet: .csv), or narrow the glob."
            )
    return found


def named(source: str, nothing: Callable[[str], str]) -> list[File]:
    """As `find`, of any kind but in folders; `nothing`: what the UserError says of one that names none."""
    found = _find_remote(source) if is_url(source) else _find_local(source)
    parts = [part.strip() for part in source.split(",") if part.strip()]
    if not found and len(parts) > 1:
        return list({file.path: file for part in parts for file in named(part, nothing)}.values())
    if not found:
        raise UserError(nothing(source))
    return found


def _nothing_there(source: str) -> str:
    why = ""
    if os.path.isdir(os.path.expanduser(source)):
        return f'corpus source "{source}": no file of a known kind is in that folder. Allowed: {", ".join(KINDS)}.'
    if "[" in source:
        why = " In a glob, [ begins a set of letters: write [[] for a bracket in a name."
    folder, name = os.path.split(os.path.expanduser(source))
    if "://" not in source and os.path.isdir(folder or "."):
        near = difflib.get_close_matches(name, os.listdir(folder or "."), n=1)
        why += f' Did you mean "{os.path.join(folder, near[0])}"?' if near else ""
    return (
        f'corpus source "{source}": no such file, and no file matches it.{why} Allowed: a path, a glob such '
        'as "data/*.jsonl.gz", a folder, several with commas between, a URL (gs://, s3://), "tfds:NAME", "hf:NAME" or '
        '"builtin:pydocs".'
    )


def _find_local(source: str) -> list[File]:
    source = os.path.expanduser(source)
    if os.path.isdir(source):
        root = Path(source)
        names = [str(path) for path in root.rglob("*") if _of_folder(str(path.relative_to(root)))]
    else:
        names = [source] if os.path.isfile(source) else glob.glob(source, recursive=True)
    found = []
    for name in sorted(name for name in names if os.path.isfile(name)):
        status = os.stat(name)
        found.append(File(path=name, size=status.st_size, stamp=str(status.st_mtime_ns)))
    return found


def _of_folder(path: str) -> bool:
    """Whether a path, from a folder on, is part of its text: of a known kind, and not hidden, as in globs."""
    return suffixes(path)[0] in KINDS and not any(part.startswith(".") for part in path.split("/"))


def _find_remote(source: str) -> list[File]:
    system = filesystem(source)
    try:
        if any(letter in source for letter in "*?["):
            names = system.glob(source)
        else:
            names = system.find(source)
        one = [str(name) for name in names] == [system._strip_protocol(source)]
        found = []
        folder = re.split(r"[*?\[]", system._strip_protocol(source))[0]
        for name in sorted(name for name in names if one or _of_folder(str(name).removeprefix(folder))):
            size = int(system.size(name) or 0)
            found.append(File(path=system.unstrip_protocol(name), size=size, stamp=str(system.ukey(name))))
        return found
    except OSError as error:
        raise UserError(
            f"corpus source {source}: cannot be listed: {error}. Check the path and the access."
        ) from error


def identity(found: list[File]) -> list[list[str | int]]:
    """What makes these files the same corpus again: content for small local ones, else path, size and time."""
    small = sum(file.size for file in found) <= HASHED_BYTES and not any(is_url(file.path) for file in found)
    if not small:
        return [[file.path, file.size, file.stamp] for file in found]
    try:
        return [[os.path.basename(file.path), file.size, sha256(file.path)] for file in found]
    except OSError as error:
        raise UserError(f"corpus file {error.filename}: cannot be read: {error.strerror}.") from error


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a local file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A binary stream of the decompressed content; every failure to read becomes a UserError with the path."""
    fix = "The file is damaged, cut short or not accessible: fetch it again or leave it out."
    with reading(f"corpus file {path}", fix=fix), contextlib.ExitStack() as stack:
        raw = filesystem(path).open(path, "rb") if is_url(path) else open(path, "rb")  # noqa: SIM115
        yield stack.enter_context(_decompressed(stack.enter_context(raw), suffixes(path)[1]))


def _decompressed(raw: BinaryIO, compression: str) -> Any:
    if compression == ".gz":
        return gzip.open(raw)
    if compression == ".bz2":
        return bz2.open(raw)
    if compression == ".xz":
        return lzma.open(raw)
    if compression == ".zst":
        return io.BufferedReader(_Zstd(raw), 2**20)
    return raw


class _Zstd(io.RawIOBase):
    """zstandard's own stream reader ends quietly on a file that was cut short: this one raises EOFError."""

    def __init__(self, raw: BinaryIO):
        self.raw = raw
        self.frame = self._frame()
        self.inside = False  # within a frame that has not ended
        self.pending = b""  # compressed
        self.ready = memoryview(b"")  # decompressed

    def _frame(self) -> Any:
        return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()  # as zstd --long=31

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            # In small bites: a byte of the file can become 32 kB, and all of a bite is held.
            data = self.pending or self.raw.read(2**12)
            self.pending = b""
            if not data:
                if self.inside:
                    raise EOFError("the zstd stream ends in the middle of a frame")
                return 0
            self.ready = memoryview(self.frame.decompress(data))
            self.inside = not self.frame.eof
            if self.frame.eof:
                self.pending = self.frame.unused_data
                self.frame = self._frame()
        count = min(len(buffer), len(self.ready))
        buffer[:count], self.ready = self.ready[:count], self.ready[count:]
        return count
