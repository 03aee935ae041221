"""Corpus → tokenizer → shards. In: a `Corpus`, a tokenizer config, a cache folder. Out: `Prepared`: a folder of shards.

Cached by content: the same corpus, tokenizer and options are found again at once, a change of any makes a new folder.
Parallel, and resumable after SIGKILL with an identical result: finished parts are kept. Memory is bounded by parts.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxlm import cached
from jaxlm.data import tokenizer, workers
from jaxlm.data.corpus import corpus, steps
from jaxlm.data.places import default_cache, disk_errors, local
from jaxlm.data.shards import assembly, handed, parts, production, progress, trained
from jaxlm.data.shards import index as indices
from jaxlm.data.tokens import chat_template
from jaxlm.errors import UserError

# A part is a 64th of the corpus between these bounds (characters): parallel when small, few files when big. It must not
# depend on the number of processes: the same corpus gives the same shards on any machine.
PARTS = 64
SMALLEST_PART = 2**20
LARGEST_PART = 2**27
IN_PROCESS_BYTES = 4 * 2**20  # below this starting workers takes longer than the work

Log = Callable[[str], None]
_DOCUMENTS = "In a .txt file they stand between blank lines."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A folder for `shards.open_shards`, its tokenizer, and its index (counts, fingerprints)."""

    directory: Path
    tokenizer: tokenizer.Tokenizer
    index: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all tokens, their order, splits and tokenizer."""
        return self.index["fingerprint"]


def prepare(
    text: corpus.Corpus,
    tokenizer_config: tokenizer.TokenizerConfig,
    *,
    sentences: bool,
    cache: str | os.PathLike[str] | None = None,
    log: Log = print,
    processes: int | None = None,
    output: str | os.PathLike[str] | None = None,
    hosts: handed.Hosts | None = None,
) -> Prepared:
    """Find or make the shards of a corpus; the texts of a record of several are its sentences.

    cache: None is `default_cache()`. processes: None is one a core. output: a folder of its own instead of the cache.
    hosts: those of a run that share no cache; all of them call this.
    UserError for whatever is wrong with the corpus, the tokenizer, or the folder.
    """
    text.validate("corpus")
    tokenizer_config.validate("tokenizer")
    sentences = sentences or len(text.wanted.texts) > 1
    if corpus.is_prepared(text.source):
        return _adopt(text, tokenizer_config, sentences)
    root = local(cache) if cache is not None else default_cache()
    directory = None if output is None else local(output)
    with disk_errors(root), disk_errors(directory or root):
        source = corpus.open_source(text, root, log)
        identity = trained.identity(source, text)
        made = trained.of_corpus(source, text, tokenizer_config, root, log)
        part = min(max(source.text_bytes() // PARTS, SMALLEST_PART), LARGEST_PART)
        key = indices.digest([identity, made.fingerprint, sentences, part, *_template(text, made, log)])
        name = f"{re.sub('[^A-Za-z0-9]+', '-', text.name)[-40:].strip('-')}-{key[:12]}"
        directory = directory or root / "shards" / name
        about = {
            "key": key,
            "dtype": "uint16" if made.size <= 2**16 else "uint32",
            "sentences": sentences,
            "columns": text.columns,
            "corpus": {**text.describe(), "identity": identity},
            "tokenizer_config": tokenizer.describe(tokenizer_config),
        }
        make = functools.partial(_make, source, text, made, directory, about, part, log, processes)
        index = _ready(directory, key, make, hosts, log)
        _restore_tokenizer(directory, made, log)
    return Prepared(directory=directory, tokenizer=made, index=index)


def _template(text: corpus.Corpus, made: tokenizer.Tokenizer, log: Log) -> list[Any]:
    """What writes the conversations of a corpus, as part of its key: the tokenizer's template, or the built-in one."""
    if text.wanted.chat is None:
        return []
    if made.chat is None:
        made.chat = chat_template.built_in(made)
        log("the tokenizer has no chat template: jaxlm's own is used, `role:`, a line break, the text")
    return [made.chat.text, made.chat.names]


def _adopt(text: corpus.Corpus, config: tokenizer.TokenizerConfig, sentences: bool) -> Prepared:
    """A folder prepared earlier, given as the source: it must be what the config asks for."""
    directory = corpus.prepared(text.source)
    index = indices.read(directory)
    made = tokenizer.load(directory)
    if made.fingerprint != index["tokenizer"]["fingerprint"]:
        raise UserError(
            f"shards {directory}: the tokenizer in this folder is not the one the shards were made with "
            f"({index['tokenizer']['fingerprint'][:12]}). Restore {made.name} or prepare the corpus again."
        )
    asked = tokenizer.describe(config)
    if isinstance(config, tokenizer.Pretrained):
        same = tokenizer.load(config.path).fingerprint == made.fingerprint
    else:
        same = asked == index["tokenizer"]["config"]
    if not same:
        raise UserError(
            f"shards {directory}: made with tokenizer {index['tokenizer']['config']}, the run asks for {asked}. "
            f"Fix: --config.tokenizer=\"Pretrained(path='{directory}')\", or prepare the corpus again."
        )
    for name in ("validation_share", "test_share"):
        if getattr(text, name) != index["corpus"][name]:
            raise UserError(
                f"shards {directory}: prepared with {name}={index['corpus'][name]}, the run asks for "
                f"{getattr(text, name)}. Fix: --config.data.{name}={index['corpus'][name]}, or prepare it again."
            )
    columns, done = {column.field for column in text.columns}, index["corpus"].get("steps", [])
    if steps.describe(text.steps) != done or not columns <= index["columns"].keys():
        raise UserError(
            f"shards {directory}: prepared with columns {list(index['columns'])} and steps {done}; the run asks for "
            f"columns {sorted(columns)} and steps {list(text.steps)}. Ask for those, or prepare the corpus again."
        )
    if sentences and not index["sentences"]:
        raise UserError(
            f"shards {directory}: made without sentences, which this objective needs. Prepare them again with "
            "sentences (`jaxlm data --sentences`)."
        )
    return Prepared(directory=directory, tokenizer=made, index=index)


def _found(directory: Path, key: str, log: Log) -> dict[str, Any] | None:
    """The index of a finished preparation whose files are there; None when there is something left to make."""
    if not (directory / indices.INDEX).is_file():
        return None
    try:
        index = indices.read(directory)
    except indices.DamagedIndex as error:
        log(f"{error} It is made again.")
        return None
    if index["key"] != key:
        raise UserError(
            f"{directory}: already holds shards of another corpus, tokenizer or option. Choose another folder or "
            "delete this one."
        )
    for entry in index["splits"].values():
        for file in indices.files_of(entry):
            path = directory / file["file"]
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                log(f"{path}: missing or damaged, is made again")
                return None
    return index


def _ready(
    directory: Path,
    key: str,
    make: Callable[[], dict[str, Any]],
    hosts: handed.Hosts | None,
    log: Log,
) -> dict[str, Any]:
    """The index of a preparation: found here, or handed out by one of the hosts, or made."""

    def here() -> dict[str, Any]:
        with cached.locked(directory, log):
            return _found(directory, key, log) or make()  # another process may have made it meanwhile

    index = _found(directory, key, lambda line: None)  # no lock yet: a complete cache may be read-only
    if hosts is not None:
        hosts.hand_out(directory, index is not None, here, log)
    return index or here()


def _make(
    source: corpus.Source,
    text: corpus.Corpus,
    made: tokenizer.Tokenizer,
    directory: Path,
    about: dict[str, Any],
    part: int,
    log: Log,
    processes: int | None,
) -> dict[str, Any]:
    """Write all parts that are not finished, and assemble them."""
    _start_or_continue(directory, about["key"])
    _save_tokenizer(directory, made)
    options = {"sentences": about["sentences"], "wanted": text.wanted, "dtype": about["dtype"]}
    job = parts.Job(directory=str(directory), **options)
    expected = source.text_bytes()
    log(f"preparing {text.name} ({expected / 1e6:.1f} MB of text) in {directory}")
    lines = progress.Progress(log, expected)
    wanted = workers.count(processes) if expected > IN_PROCESS_BYTES or not expected else 1
    done = steps.Steps(text.steps)
    number = min(wanted, max(expected // part, 1))
    by_split: dict[str, list[dict[str, Any]]] = {}
    for record in production.records(job, source.records(), text, part, done, number, lines):
        by_split.setdefault(record["split"], []).append(record)
    # Parts finish in any order; a part with nothing but empty documents is no shard.
    found = {
        split: sorted(
            (r for r in by_split.get(split, ()) if r["documents"]), key=lambda record: record["number"]
        )
        for split in corpus.SPLITS
    }
    _check_splits(text, {split: sum(r["documents"] for r in records) for split, records in found.items()})
    about = {**about, "origins": source.names(), "steps": done.report()}
    index = assembly.assemble(
        directory, {split: records for split, records in found.items() if records}, made, about
    )
    log(lines.summary())
    return index


def _restore_tokenizer(directory: Path, made: tokenizer.Tokenizer, log: Log) -> None:
    """Writes the tokenizer beside the shards again where it is damaged: other corpora of a run read it there."""
    try:
        if tokenizer.load(directory).fingerprint == made.fingerprint:
            return
    except UserError:
        pass
    log(f"{directory}: the tokenizer beside the shards is missing or damaged, is written again")
    _save_tokenizer(directory, made)


def _save_tokenizer(directory: Path, made: tokenizer.Tokenizer) -> None:
    for name in made.save(directory):
        cached.sync(directory / name)


def _start_or_continue(directory: Path, key: str) -> None:
    """Make room for parts; leave those of an earlier attempt at the same, and clear what it had not finished."""
    folder = directory / parts.FOLDER
    started = folder / "key"
    if started.is_file() and started.read_text() != key:
        raise UserError(
            f"{directory}: holds an unfinished preparation of another corpus, tokenizer or option. Choose another "
            "folder or delete this one."
        )
    folder.mkdir(exist_ok=True)
    parts.write_text(started, key)
    for leftover in (*folder.glob("*.tmp-*"), *directory.glob("*.tmp-*")):
        leftover.unlink()


def _check_splits(text: corpus.Corpus, documents: dict[str, int]) -> None:
    """No split that was asked for may be empty."""
    total = sum(documents.values())
    if not total:
        raise trained.nothing(text)
    shares = {"validation": text.share("validation"), "test": text.share("test")}
    for split, source in text.own.items():
        if not documents[split]:
            raise UserError(f"corpus {source}: there is no document for the {split} split.")
    if empty := [split for split, share in shares.items() if share and not documents[split]]:
        flag, enough = "--config.data.{}_share={:.2g}".format, min(0.5, 3 / total)
        more = " ".join(flag(split, enough) for split in empty if enough > shares[split] and total > 3)
        asked = " and ".join(f"{split}_share={shares[split]}" for split in empty)
        raise UserError(
            f"corpus {text.name}: {asked} of {total:,} documents left the {' and the '.join(empty)} split empty "
            f"(copies stay together). Fix: {f'{more} or more, ' if more else ''}"
            f"{' '.join(flag(split, 0) for split in empty)} for no such split, or more documents. {_DOCUMENTS}"
        )
    if not documents["train"]:
        raise UserError(
            f"corpus {text.name}: all of its {total:,} documents fell into the held-out splits. Fix: "
            "--config.data.validation_share=0 and --config.data.test_share=0 for no such splits, or more documents. "
            f"{_DOCUMENTS}"
        )
