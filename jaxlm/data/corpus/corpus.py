"""A corpus: documents of text from wherever they are. In: a `Corpus` config. Out: a `Source` of `Record`s.

The order of documents is fixed (files by path, records as they stand), nothing is held in memory, and `identity`
changes when the content does. A document's split is a function of its text alone, so copies never straddle splits;
that of a question, of the text it is about.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from jaxlm.buckets import copies
from jaxlm.buckets.bucket import is_url
from jaxlm.data.corpus import (
    builtin,
    builtin_chats,
    builtin_pairs,
    builtin_questions,
    builtin_tables,
    columns,
    files,
    hubs,
    readers,
    steps,
    strata,
)
from jaxlm.data.corpus.columns import Column, Wanted
from jaxlm.data.corpus.parted import Parted
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.source import Source, check_reader
from jaxlm.data.corpus.steps import Step
from jaxlm.data.corpus.strata import Moved
from jaxlm.data.places import default_cache, expanded
from jaxlm.errors import UserError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_INDEX = "index.json"  # what a folder of prepared shards has, see data.shards.index


@dataclasses.dataclass(kw_only=True)
class Corpus:
    """Where the text is, and how much of it is held out."""

    # A path, glob or folder of .txt, .csv, .tsv, .jsonl or .parquet files (plain, .gz, .zst; local, gs://, s3://),
    # several with commas between, tfds:NAME[:SPLIT], hf:NAME[@CONFIG][:SPLIT], builtin:pydocs, or a folder of prepared
    # shards
    source: str
    reader: Any = None  # a `Reader` of one's own; source is "" then
    text_field: str = "text"  # the field or column that holds the text (CSV, JSONL, Parquet, tfds, hf)
    # Several fields in place of text_field, for records of texts that belong together
    text_fields: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()  # what else is read of every record, and kept beside the shards
    steps: tuple[
        Step, ...
    ] = ()  # what is done to every record before it is split and tokenised, in this order
    validation_share: float  # of the documents, by a hash of their text; 0: no such split
    test_share: float  # held out for a test at the end, in the same way; 0: no such split
    validation: str = ""  # files of their own for this split, named as the corpus is; it then takes no share
    test: str = ""  # the same for what is held out for the end
    moved: Moved = ()  # documents that are not in the split that their hash says, see strata.py

    @property
    def name(self) -> str:
        """For messages."""
        return self.source if self.reader is None else type(self.reader).__name__

    @property
    def wanted(self) -> Wanted:
        """The fields to read."""
        return Wanted(tuple(self.text_fields) or (self.text_field,), tuple(self.columns))

    def describe(self) -> dict[str, Any]:
        """For the index of prepared shards."""
        shares = {"validation_share": self.validation_share, "test_share": self.test_share}
        return {
            "source": self.name,
            **self.wanted.describe(),
            **shares,
            **self.own,
            **({"moved": list(map(list, self.moved))} if self.moved else {}),
            "steps": steps.describe(self.steps),
        }

    @property
    def own(self) -> dict[Split, str]:
        """The files of the splits that have some."""
        named: dict[Split, str] = {"validation": self.validation, "test": self.test}
        return {split: source for split, source in named.items() if source}

    def share(self, split: Split) -> float:
        """Of the documents of `source`, that is held out for a split."""
        shares = {"validation": self.validation_share, "test": self.test_share}
        return 0.0 if split in self.own else shares[split]

    def holds_out(self, split: Split) -> bool:
        """Whether there is such a split."""
        return split == "train" or split in self.own or self.share(split) > 0

    def validate(self, where: str) -> None:
        """UserError for no source, or what `check` finds."""
        if not self.name:
            raise UserError(f"{where}.source is empty: name a path, a glob, or 'builtin:pydocs'.")
        self.check(where)

    def check(self, where: str) -> None:
        """UserError for a share outside [0, 1), nothing left to train on, or fields that are no fields."""
        check_shares(self.share("validation"), self.share("test"), where)
        if self.own and is_prepared(self.source):
            raise UserError(
                f"{where}: {self.source} is a folder of prepared shards, whose splits are made: {self.own} cannot be "
                "added. Fix: prepare the files together."
            )
        check_reader(self.reader, self.source, where)
        check_fields(self.text_fields, where)
        columns.check(self.columns, self.wanted.texts, where)
        steps.check(self.steps, where)

    def split(self, record: Record) -> Split:
        """The split of a document: that of its file, or from a hash of its texts, or of what its group shares."""
        if record.split:
            return record.split  # pyright: ignore[reportReturnType]
        digest = self.digest(record)
        if self.moved and (split := dict(self.moved).get(strata.hexadecimal(digest))):
            return split  # pyright: ignore[reportReturnType]
        share = digest / 2**64
        if share < self.share("test"):
            return "test"
        return "validation" if share < self.share("test") + self.share("validation") else "train"

    def digest(self, record: Record) -> int:
        """Of its texts, or of the one that its group shares: what decides its split, below 2^64."""
        names, group = self.wanted.texts, self.wanted.grouped_by
        shared = [record.texts[names.index(group)]] if group else record.texts
        text = "\x1f".join(shared)  # ASCII's unit separator
        digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"jaxlm-split").digest()
        return int.from_bytes(digest, "little")


def check_shares(validation_share: float, test_share: float, where: str) -> None:
    """The one rule for held-out shares: each in [0, 1), and something is left to train on."""
    for name, share in (("validation_share", validation_share), ("test_share", test_share)):
        if not 0 <= share < 1:
            raise UserError(f"{where}.{name}={share}: must be at least 0 and below 1.")
    if validation_share + test_share >= 1:
        raise UserError(
            f"{where}: validation_share={validation_share} and test_share={test_share} leave nothing to "
            "train on: their sum must be below 1."
        )


def check_fields(text_fields: tuple[str, ...], where: str) -> None:
    """UserError for one field only, or a name twice."""
    if len(text_fields) == 1 or len(set(text_fields)) != len(text_fields):
        flag = (
            f"--{where}.text_field" if where.startswith("config") else "--text-field"
        )  # the latter of `jaxlm data`
        raise UserError(
            f"{where}.text_fields={tuple(text_fields)}: two or more different fields whose texts belong together. For "
            f"one field: {flag}=NAME instead."
        )


def is_prepared(source: str) -> bool:
    """Whether a corpus source is a folder of prepared shards, here or in a bucket."""
    if is_url(source):
        return _is_prepared_there(source.rstrip("/"))
    return bool(source) and os.path.isfile(os.path.join(os.path.expanduser(source), _INDEX))


def prepared(source: str) -> Path:
    """The folder of prepared shards that a source names; an up to date copy of one in a bucket."""
    if not is_url(source):
        return expanded(source)
    url = source.rstrip("/")
    return copies.copied(url, copies.home(url, default_cache()), lambda name: True)


@functools.cache  # asked many times at every start; what is prepared stays
def _is_prepared_there(url: str) -> bool:
    return not any(sign in url for sign in "*?[,") and copies.has(url, _INDEX)


def open_source(corpus: Corpus, cache: str | os.PathLike[str], log: Callable[[str], None] = print) -> Source:
    """The source behind a config. UserError when it does not exist or its library is not installed."""
    if corpus.own:
        alone = dataclasses.replace(corpus, validation="", test="")
        files = {split: _alone(alone, name) for split, name in corpus.own.items()}
        made = {"train": alone, **files}
        return Parted({split: open_source(one, cache, log) for split, one in made.items()})
    if corpus.reader is not None:
        return corpus.reader
    kind, _, rest = corpus.source.partition(":")
    if corpus.source == builtin_chats.NAME:
        return builtin_chats.PyChats(cache, log, corpus.wanted)
    if (kind, rest) == ("builtin", builtin_questions.NAME):
        return builtin_questions.open_questions(corpus.wanted, cache, log)
    if kind == "builtin":
        if rest in builtin_tables.KINDS:
            return builtin_tables.PyDocsTable(rest, cache, log, corpus.wanted)
        if rest in builtin_pairs.KINDS:
            return builtin_pairs.open_pairs(rest, corpus.wanted, cache, log)
        known = (columns.Label(field=builtin.LABEL),)
        if len(corpus.wanted.texts) > 1 or corpus.columns not in ((), known):
            raise UserError(
                f'corpus "{corpus.source}": has a text and a label. Fix: another corpus, or '
                f'"--config.data.text_fields=()" "--config.data.columns=()", or "--config.data.columns={known}".'
            )
        return builtin.open_builtin(rest, cache, log, labelled=bool(corpus.columns))
    if kind in ("tfds", "hf"):
        return (hubs.Tfds if kind == "tfds" else hubs.HuggingFace)(rest, corpus.wanted)
    return Files(corpus.source, corpus.wanted)


def records(corpus: Corpus, cache: str | os.PathLike[str]) -> Iterator[Record]:
    """All documents of a config, after its steps, before they are split. UserError as `open_source`."""
    return steps.Steps(corpus.steps).run(open_source(corpus, cache).records())


def _alone(corpus: Corpus, source: str) -> Corpus:
    return dataclasses.replace(corpus, source=source, reader=None)


class Files:
    """Documents of files, one file after the other, by path."""

    def __init__(self, source: str, wanted: Wanted):
        self.files = files.find(source)
        self.wanted = wanted

    def identity(self) -> Any:
        return {"files": files.identity(self.files), **self.wanted.describe()}

    def text_bytes(self) -> int:
        return sum(file.text_bytes for file in self.files)

    def names(self) -> list[str]:
        return [file.path for file in self.files]

    def records(self) -> Iterator[Record]:
        for number, file in enumerate(self.files):
            for record in readers.read(file.path, self.wanted):
                yield dataclasses.replace(record, origin=(number, record.origin[1])) if number else record

    def sample(self, limit: int) -> Iterator[Record]:
        """The first documents of every file, an equal share each; what short files leave goes to later ones."""
        for index, file in enumerate(self.files):
            share = limit / (len(self.files) - index)
            used = 0
            for record in readers.read(file.path, self.wanted):
                used += record.text_bytes
                yield record
                if used >= share:
                    break
            limit -= used
            if limit <= 0:
                return
