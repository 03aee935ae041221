"""Reads damaged files in a process with a limit on its memory: `python -m tests.fuzz.program DIR FIRST COUNT KIND...`.

Every outcome must be success or UserError. Anything else is printed as a line `FAULT ...`; a crash ends the process, and
the last line says in what. Kinds are those of `good.MAKERS`, and `config`.
"""

import base64
import faulthandler
import json
import pathlib
import random
import resource
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxlm.convert import families
from jaxlm.data import tokenizer
from jaxlm.data.corpus import corpus
from jaxlm.data.corpus.answers import Answers
from jaxlm.data.corpus.spans import Tags
from jaxlm.data.tokens import gguf_tokenizer, spiece_json
from jaxlm.errors import UserError
from jaxlm.formats import flax_file, gguf_file, gguf_model, safetensors_file, tensorflow_file, torch_file
from tests.fuzz import damage, good

MEMORY, FILLED = 2**30, 2**19  # bytes that may be asked for; KiB of them that may be used
HANG = 100  # seconds for one file, on a machine that does other things too


def weights(entries: Callable) -> Callable[[pathlib.Path], None]:
    """Reads every tensor."""

    def read(path: pathlib.Path) -> None:
        for entry in entries(path).values():
            entry.read(())

    return read


def read_gguf(path: pathlib.Path) -> None:
    """Tensors, config and tokenizer, whatever is wrong with the others."""
    file = gguf_file.read(path)
    for work in (
        lambda: [entry.read(()) for entry in file.tensors.values()],
        lambda: families.config_from_hf(gguf_model.config(file)),
        lambda: [gguf_model.source(file).read(name) for name in gguf_model.source(file)],
        lambda: gguf_tokenizer.files(file.metadata, file.path),
    ):
        outcome(work)


def read_tokenizer(path: pathlib.Path) -> None:
    """Loads the folder and uses it."""
    made = tokenizer.load(path.parent)
    made.encode_batch(good.TEXTS)
    made.encode_batch_with_offsets(good.TEXTS[:3])
    made.decode(made.encode_marked(good.TEXTS[0] + "[MASK]"))
    _ = made.vocabulary


def read_table(path: pathlib.Path) -> None:
    """The tokenizer.json beside it with this table."""
    beside = path.with_name("tokenizer.json")
    made = json.loads(beside.read_text())
    made["normalizer"]["normalizers"][0]["precompiled_charsmap"] = base64.b64encode(
        path.read_bytes()
    ).decode()
    beside.write_text(json.dumps(made))
    read_tokenizer(beside)


def read_model(path: pathlib.Path) -> None:
    """A SentencePiece model, and what it is as a tokenizer.json."""
    outcome(lambda: read_tokenizer(path))
    outcome(lambda: spiece_json.convert(path.read_bytes(), str(path)))


def read_corpus(path: pathlib.Path) -> None:
    """All documents."""
    source = corpus.Corpus(source=str(path), validation_share=0.0, test_share=0.0)
    for _ in corpus.open_source(source, path.parent / "cache").records():
        pass


def read_sentences(path: pathlib.Path) -> None:
    """All words with their tags."""
    column = Tags(field="tags", text="tokens", between=" ", scheme="bio")
    held = {"validation_share": 0.0, "test_share": 0.0}
    source = corpus.Corpus(source=str(path), text_field="tokens", columns=(column,), **held)
    for _ in corpus.open_source(source, path.parent / "cache").records():
        pass


def read_questions(path: pathlib.Path) -> None:
    """All questions with their answers."""
    column, held = Answers(field="answers", text="context"), {"validation_share": 0.0, "test_share": 0.0}
    fields = {"text_fields": ("question", "context"), "columns": (column,)}
    source = corpus.Corpus(source=str(path), **fields, **held)
    for _ in corpus.open_source(source, path.parent / "cache").records():
        pass


def read_program(path: pathlib.Path) -> None:
    """The program of a pickle, in a container that is right."""
    whole = path.with_suffix(".bin")
    good.zipped(whole, path.read_bytes())
    weights(torch_file.entries)(whole)


READERS: dict[str, Callable[[pathlib.Path], None]] = {
    "safetensors": weights(safetensors_file.entries),
    "torch": weights(torch_file.entries),
    "torch_program": read_program,
    "torch_stream": weights(torch_file.entries),
    "flax": weights(flax_file.entries),
    "gguf": read_gguf,
    "tensorflow": lambda path: weights(tensorflow_file.entries)(path.with_suffix("")),
    "sentencepiece": read_model,
    "table": read_table,
    **dict.fromkeys(
        ("wordpiece", "unigram", "byte_bpe", "vocab_json", "merges_txt", "vocab_txt", "settings"),
        read_tokenizer,
    ),
    **dict.fromkeys(
        ("jsonl", "jsonl_gz", "jsonl_zst", "jsonl_xz", "jsonl_bz2", "text", "csv", "tsv", "parquet"),
        read_corpus,
    ),
    "conll": read_sentences,
    "squad": read_questions,
}


def outcome(work: Callable[[], Any]) -> str:
    """Whether it was taken or refused; whatever else is raised goes on."""
    faulthandler.dump_traceback_later(HANG, exit=True)
    try:
        work()
        return "taken"
    except UserError:
        return "refused"
    finally:
        faulthandler.cancel_dump_traceback_later()


class Asked(dict):
    """A config.json that remembers what it was asked for."""

    def __init__(self, values: Mapping[str, Any]):
        super().__init__(values)
        self.keys_asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        self.keys_asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.keys_asked.add(key)
        return super().__getitem__(key)


def configs() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every key that a family looks at, and every value inside, with every absurd value."""
    for kind, hf in good.config_jsons().items():
        asked = Asked(hf)
        families.config_from_hf(asked)
        for path in dict.fromkeys([*damage.places(hf), *((key,) for key in sorted(asked.keys_asked))]):
            for value in damage.ABSURD if path else ():
                made = damage.replaced(hf, path, value)
                yield f"{kind} {path} = {value!r:.60}", lambda made=made: families.config_from_hf(made)


def files(place: pathlib.Path, kind: str, first: int, count: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Damaged files of one kind."""
    made = good.make(place / "good", kind)
    whole, work = made.read_bytes(), place / "work"
    READERS[kind](made)  # what is not damaged is taken
    for seed in range(first, first + count):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(made.parent, work)
        path = work / made.name
        path.write_bytes(damage.damaged(whole, random.Random(f"{kind} {seed}")))
        yield f"{kind} {seed}", lambda path=path: READERS[kind](path)


def main(place: pathlib.Path, first: int, count: int, *kinds: str) -> None:
    """Prints FAULT for what is wrong, and at the end what became of how many."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind in kinds:
        counts = {"taken": 0, "refused": 0}
        cases = configs() if kind == "config" else files(place / kind, kind, first, count)
        limited = False
        for name, work in cases:
            if not limited:  # what is imported late has been by now
                size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
                limited = True
            (place / "now").write_text(name)
            try:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                counts[outcome(work)] += 1
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                assert grown < FILLED, f"{grown} KiB of memory"
            except BaseException as error:
                last = [
                    frame for frame in traceback.extract_tb(error.__traceback__) if "jaxlm/" in frame.filename
                ]
                where = f"{last[-1].filename.split('jaxlm/')[-1]}:{last[-1].lineno}" if last else "?"
                print(f"FAULT {name}: {type(error).__name__} at {where}: {str(error)[:200]}", flush=True)
        print(f"{kind}: {counts}", flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
