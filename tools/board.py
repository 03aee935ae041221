"""A board of scores: tasks × learning rates × seeds, ours beside the peer's, on one machine. Out: docs/board.md.

    python tools/board.py --data=DIR --model=DIR --out=runs/board sentiment_en ner_en_wikiann
    python tools/board.py --data=DIR --model=DIR --out=runs/board --plan

Every cell is a folder, and one that is finished is not done again: stop the tool and type the same line. The first
`examples` rows of the training file are split by hash into what is trained on and a tenth that learning rates are
chosen on (first seed); the test file is read once, by the chosen rate of each side, all seeds. Sides take turns, so
that their seconds are those of one machine at about the same time. The peer is tools/board_peer.py.
"""

import argparse
import collections
import dataclasses
import hashlib
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tokenizers

from jaxlm.data.corpus import readers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.spans import Spans
from jaxlm.data.corpus.steps import MarkSpans
from jaxlm.errors import UserError
from jaxlm.evaluate import classes, paired

ROOT = pathlib.Path(__file__).parents[1]
SIDES = ("jaxlm", "transformers")
MARK = MarkSpans(labels=("head", "tail"), markers=("[E1]", "[/E1]", "[E2]", "[/E2]"))
RELATION = Wanted(("text",), tuple(Spans(field=name, text="text") for name in MARK.labels))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is trained, measured and compared; the same on both sides."""

    recipe: str  # of ours: a name or a file
    # Of the peer: classification, multi_label, tagging, similarity, question_answering, relations, translation; "": it
    # has none
    kind: str
    train: str
    test: str
    metric: str
    examples: int  # of the training file, the first
    items: int = 0  # of the test file, the first; 0: all
    epochs: int
    batch: int  # examples of a step
    tokens: int  # of an example, special ones included
    rates: tuple[float, ...] = (5e-5, 1e-4, 2e-4)
    seeds: tuple[int, ...] = (1, 2, 3)
    label: str = "label"
    fields: tuple[str, ...] = ("text",)  # that are read; "marked": the text with markers around head and tail
    settings: tuple[str, ...] = ()  # of ours, besides
    asked: tuple[str, ...] = ()  # of `jaxlm evaluate`, besides, on both sides


PROTOCOLS = {
    "sentiment_en": Protocol(
        recipe="classification", kind="classification", train="sentiment_en.train.csv.gz",
        test="sentiment_en.validation.csv.gz", metric="accuracy", examples=6000, epochs=2, batch=32, tokens=64,
        settings=("--config.objective.max_tokens=61",),
    ),
    "ner_en_wikiann": Protocol(
        recipe="tagging", kind="tagging", train="ner_en_wikiann.train.conll.gz",
        test="ner_en_wikiann.validation.conll.gz", metric="f1", examples=8000, epochs=2, batch=32, tokens=128,
        rates=(1e-4, 2e-4, 3e-4), fields=("tokens",), label="tags",
        settings=("--config.objective.max_tokens=125",),
    ),
    "nli_vitaminc": Protocol(
        recipe="classification", kind="classification", train="nli_vitaminc.train.jsonl.gz",
        test="nli_vitaminc.validation.jsonl.gz", metric="accuracy", examples=3000, epochs=2, batch=32, tokens=128,
        rates=(1e-4, 2e-4, 3e-4), fields=("premise", "hypothesis"),
        settings=(
            "--config.data.text_fields=('premise','hypothesis')", "--config.objective.texts=2",
            "--config.objective.max_tokens=125",
        ),
    ),
    "emotions_en_multilabel": Protocol(
        recipe="multi_label", kind="multi_label", train="emotions_en_multilabel.train.jsonl.gz",
        test="emotions_en_multilabel.validation.jsonl.gz", metric="micro_f1", examples=12000, epochs=4, batch=32,
        tokens=64, rates=(2e-4, 4e-4, 8e-4), label="labels", settings=("--config.objective.max_tokens=61",),
    ),
    "relation_en_semeval2010": Protocol(
        recipe="relation_extraction", kind="relations", train="relation_en_semeval2010.train.jsonl.gz",
        test="relation_en_semeval2010.validation.jsonl.gz", metric="accuracy", examples=4500, epochs=2, batch=32,
        tokens=128, rates=(1e-4, 2e-4, 4e-4), fields=("marked",), settings=("--config.objective.max_tokens=125",),
    ),
    "similarity_en_stsb": Protocol(
        recipe="similarity", kind="similarity", train="similarity_en_stsb.train.tsv.gz",
        test="similarity_en_stsb.validation.tsv.gz", metric="pearson", examples=4000, epochs=2, batch=32, tokens=128,
        fields=("sentence1", "sentence2"), label="score", settings=("--config.objective.max_tokens=62",),
    ),
    "qa_en_squad": Protocol(
        recipe="question_answering", kind="question_answering", train="qa_en_squad.train.json.gz",
        test="qa_en_squad.validation.json.gz", metric="f1", examples=1100, items=1000, epochs=2, batch=16,
        tokens=256, rates=(1e-4, 2e-4, 4e-4), fields=("question", "context"),
        settings=("--config.objective.max_tokens=256", "--config.objective.overlap=64"),
    ),
    "translation_en-de_multi30k": Protocol(
        recipe="translation", kind="translation", train="translation_en-de_multi30k.train.tsv.gz",
        test="translation_en-de_multi30k.validation.tsv.gz", metric="bleu", examples=5000, epochs=6, batch=64,
        tokens=64, rates=(1e-3, 2e-3, 4e-3), fields=("source", "target"), label="",
        asked=(
            "--task=translation", "--template={source}", "--answer=target", "--max-new-tokens=64", "--beams=1",
        ),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One training."""

    name: str
    protocol: Protocol
    side: str
    rate: float
    seed: int
    out: pathlib.Path
    model: str

    @property
    def folder(self) -> pathlib.Path:
        """Of what it leaves."""
        return self.out / self.name / f"{self.side}-{self.rate:g}-{self.seed}"

    @property
    def run(self) -> str:
        """What jaxlm opens."""
        return str(self.folder) if self.side == "jaxlm" else f"hf:{self.folder}"

    def done(self) -> None:
        """Trains it, unless that is done."""
        if (self.folder / "seconds.json").exists():
            return
        say(f"{self.folder.relative_to(self.out)}")
        started = time.perf_counter()
        training, examples = (ours if self.side == "jaxlm" else peers)(self)
        about = {"training": training, "whole": time.perf_counter() - started, "examples": examples}
        (self.folder / "seconds.json").write_text(json.dumps(about))

    def seconds(self) -> dict[str, float]:
        """Of training, of the whole process; and how many examples it was."""
        return json.loads((self.folder / "seconds.json").read_text())


def main(argv: list[str]) -> int:
    """Does what is not done yet, and writes the board."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("names", nargs="*", help="protocols; default: all")
    add("--data", type=pathlib.Path, required=True, help="folder of the tables")
    add("--model", required=True, help="Hugging Face folder that both sides start from")
    add("--out", type=pathlib.Path, required=True, help="folder of the cells")
    add("--board", type=pathlib.Path, default=ROOT / "docs" / "board.md", help="default: docs/board.md")
    add("--protocols", type=pathlib.Path, help="JSON with protocols of your own: {name: {field: value}}")
    add("--plan", action="store_true", help="list the cells, with what is done, and stop")
    options = parser.parse_args(argv[1:])
    own = json.loads(options.protocols.read_text()) if options.protocols else {}
    tuples = lambda one: {key: tuple(v) if isinstance(v, list) else v for key, v in one.items()}
    protocols = PROTOCOLS | {name: Protocol(**tuples(one)) for name, one in own.items()}
    if unknown := [name for name in options.names if name not in protocols]:
        raise SystemExit(f"no protocol {unknown[0]}; there are {', '.join(protocols)}")
    lines = []
    for name in options.names or protocols:
        cells = list(planned(name, protocols[name], options))
        if options.plan:
            for cell in cells:
                state = "done" if (cell.folder / "seconds.json").exists() else "to do"
                print(f"{state:>5}  {cell.folder.relative_to(options.out)}")
            continue
        lines += board(name, protocols[name], cells, options)
    if not options.plan:
        options.board.write_text(page(lines), encoding="utf-8")
        say(f"{options.board} is written")
    return 0


def planned(name: str, protocol: Protocol, options: argparse.Namespace) -> Iterator[Cell]:
    """All rates of the first seed, sides by turns; the others are decided when a rate is chosen."""
    sides = SIDES if protocol.kind else SIDES[:1]
    fixed = {"name": name, "protocol": protocol, "out": options.out, "model": options.model}
    for rate in protocol.rates:
        for side in sides:
            yield Cell(**fixed, side=side, rate=rate, seed=protocol.seeds[0])


def board(name: str, protocol: Protocol, cells: list[Cell], options: argparse.Namespace) -> list[str]:
    """Lines of the table of a protocol, after whatever had to be trained."""
    split(name, protocol, options)
    for cell in cells:
        cell.done()
    dev, test = options.out / name / "dev.jsonl", options.out / name / "test.jsonl"
    value = lambda cell: scores(cell, dev)["metrics"][protocol.metric]["value"]
    sides = dict.fromkeys(cell.side for cell in cells)
    chosen = {side: max((c for c in cells if c.side == side), key=value) for side in sides}
    final: dict[str, list[Cell]] = {side: [] for side in sides}
    for seed in protocol.seeds:
        for side, cell in chosen.items():
            final[side].append(dataclasses.replace(cell, seed=seed))
            final[side][-1].done()
    lines = [line(name, protocol, side, final[side], test) for side in sides]
    if len(sides) == 2:
        lines += [versus(protocol, *pair, test) for pair in zip(*final.values(), strict=True)]
    return lines


def line(name: str, protocol: Protocol, side: str, cells: list[Cell], test: pathlib.Path) -> str:
    """Score, interval and cost."""
    found = [scores(cell, test)["metrics"][protocol.metric] for cell in cells]
    values = [one["value"] for one in found]
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    speed = [cell.seconds()["examples"] / cell.seconds()["training"] for cell in cells]
    cost = sum(cell.seconds()["whole"] for cell in cells)
    interval = f"{found[0]['low']:.4f} to {found[0]['high']:.4f}"
    side = "sentence-transformers" if protocol.kind == "similarity" and side != "jaxlm" else side
    return (
        f"| {name} | {side} | {protocol.metric} | {statistics.mean(values):.4f}{spread} | {interval} | "
        f"{cells[0].rate:g} of {len(protocol.rates)} | {len(cells)} | {statistics.median(speed):.1f} | {cost:.0f} |"
    )


def versus(protocol: Protocol, ours: Cell, theirs: Cell, test: pathlib.Path) -> str:
    """The paired test of one seed. The peer's folder comes first, since it is the one that has to be told columns."""
    found = scores(theirs, test, against=ours)["differences"][protocol.metric]
    value, low, high = (-found[name] for name in ("value", "high", "low"))
    told = f"{value:+.4f} [{low:+.4f}, {high:+.4f}], p = {found['p']:.3f} ({found['test']})"
    return f"| | seed {ours.seed}: jaxlm less the peer | {protocol.metric} | {told} | | | | | |"


def scores(cell: Cell, table: pathlib.Path, against: Cell | None = None) -> dict[str, Any]:
    """What `jaxlm evaluate` measures, kept beside the cell."""
    beside = f"-against-{against.side}" if against else ""
    kept = cell.folder / f"{table.stem}{beside}.json"
    if not kept.exists() and (cell.folder / f"{table.stem}.said.json").exists():
        kept.write_text(json.dumps(of_labels(cell, table, against)))
    elif not kept.exists():
        words = [f"--run={cell.run}", f"--data={table}", "--folder=", "--json"]
        if cell.side == "transformers" and cell.protocol.kind not in ("tagging", "translation"):
            words.append(f"--text-field={','.join(cell.protocol.fields)}")
        words += cell.protocol.asked
        found = call("-m", "jaxlm", "evaluate", *words, *([f"--against={against.run}"] if against else []))
        kept.write_text(found.splitlines()[-1])
    return json.loads(kept.read_text())


def of_labels(cell: Cell, table: pathlib.Path, against: Cell | None) -> dict[str, Any]:
    """The same of a peer that jaxlm does not open: it has left the labels that it gives."""
    right = [json.loads(row)[cell.protocol.label] for row in table.open()]
    given = json.loads((cell.folder / f"{table.stem}.said.json").read_text())
    if against:
        said = against.folder / f"{table.stem}.said.jsonl"
        call("-m", "jaxlm", "predict", f"--run={against.run}", f"--input={table}", f"--output={said}")
        given += [json.loads(row)["predicted"] for row in said.open()]
        right += right
    hit_N = np.array([one == other for one, other in zip(given, right, strict=True)])
    found = classes.resampled(len(hit_N), lambda items: {"accuracy": float(hit_N[items].mean())})
    told = paired.compared(found) if against else found
    name = "differences" if against else "metrics"
    return {name: {key: dataclasses.asdict(value) for key, value in told.items()}}


def split(name: str, protocol: Protocol, options: argparse.Namespace) -> None:
    """train.jsonl, dev.jsonl (a tenth, by hash) and test.jsonl; a label of a single row is one to learn from."""
    folder = options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "test.jsonl").exists():
        return
    found = list(rows(options.data / protocol.train, protocol))[: protocol.examples]
    labels = [json.loads(row).get(protocol.label) for row in found]
    often = collections.Counter(label for label in labels if isinstance(label, str))
    is_dev = [
        int(hashlib.sha256(row.encode()).hexdigest(), 16) % 10 == 0
        and not (isinstance(label, str) and often[label] == 1)
        for row, label in zip(found, labels, strict=True)
    ]
    write = lambda part, lines: (folder / f"{part}.jsonl").write_text("".join(f"{one}\n" for one in lines))
    write("train", [row for row, dev in zip(found, is_dev, strict=True) if not dev])
    write("dev", [row for row, dev in zip(found, is_dev, strict=True) if dev])
    write("test", itertools.islice(rows(options.data / protocol.test, protocol), protocol.items or None))


def rows(path: pathlib.Path, protocol: Protocol) -> Iterator[str]:
    """Every row of a table as JSON."""
    named = protocol.fields if ".tsv" in path.suffixes else ()  # which may have no header
    for where, _, row in readers.rows(str(path), Wanted(named), whole=True):
        if "marked" in protocol.fields:  # for a model that reads nothing else
            row["marked"] = MARK.apply(readers.of(dict(row), RELATION, where)).texts[0]
        yield json.dumps(row, ensure_ascii=False)


def ours(cell: Cell) -> tuple[float, int]:
    """(seconds of training, examples). As many examples a step as the peer; rows are packed, so a step has fewer."""
    one, train = cell.protocol, cell.out / cell.name / "train.jsonl"
    found = [json.loads(row) for row in train.open()]
    batch = max(1, round(one.batch * packed_rows(found, one, cell.model) / len(found)))
    words = [
        f"--config.init_from=hf:{cell.model}", f"--config.data.corpus={train}", f"--workdir={cell.folder}",
        f"--config.stages=(Stage(length={one.tokens},share=1.0),)", f"--config.batch_size={batch}",
        f"--config.epochs={one.epochs}", f"--config.seed={cell.seed}",
        f"--config.optimizer.schedule.peak={cell.rate}", "--config.evaluators=()", *one.settings,
        f"--config.data.validation={train.with_name('dev.jsonl')}", "--config.data.validation_share=0.0",
        "--config.evaluation.every_steps=1000000", "--config.checkpoint.every_steps=0",  # the last step alone
        "--config.checkpoint.keep.best_metric=eval/loss", "--config.checkpoint.keep.best_mode=min",
    ]  # fmt: skip
    call("-m", "jaxlm", "train", one.recipe, *words)
    lines = [json.loads(text) for text in (cell.folder / "metrics.jsonl").open()]
    step = statistics.median(each["time/step_s"] for each in lines if "time/step_s" in each)
    return step * lines[-1]["step"], len(found) * one.epochs


def packed_rows(found: list[dict[str, Any]], one: Protocol, model: str) -> int:
    """Rows that an epoch is packed into, to a few per cent."""
    words = tokenizers.Tokenizer.from_file(f"{model}/tokenizer.json")
    words.no_truncation()
    words.no_padding()
    # Source and target have rows of their own.
    sides = [(name,) for name in one.fields] if one.kind == "translation" else [one.fields]
    text = lambda value: " ".join(value) if isinstance(value, list) else value
    tokens = 0
    for fields in sides:
        encoded = words.encode_batch([" ".join(text(row[field]) for field in fields) for row in found])
        tokens = max(tokens, sum(min(len(each.ids), one.tokens) for each in encoded))
    return -(-tokens // int(0.97 * one.tokens))


def peers(cell: Cell) -> tuple[float, int]:
    """(seconds of training, examples). In a process of its own, as ours is."""
    one = cell.protocol
    cell.folder.mkdir(parents=True, exist_ok=True)
    told = {
        "train": str(cell.out / cell.name / "train.jsonl"), "model": cell.model, "folder": str(cell.folder),
        "rate": cell.rate, "seed": cell.seed, "markers": MARK.markers,
    }  # fmt: skip
    (cell.folder / "cell.json").write_text(json.dumps({**dataclasses.asdict(one), **told}))
    call(str(ROOT / "tools" / "board_peer.py"), str(cell.folder / "cell.json"))
    found = json.loads((cell.folder / "trained.json").read_text())
    return found["seconds"], found["examples"]


def call(*words: str) -> str:
    """What it prints. SystemExit with what it said, where it fails."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(words)}\nended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def page(lines: list[str]) -> str:
    """The board."""
    git = lambda *words: subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    commit = git("rev-parse", "--short", "HEAD") + (
        " with changes" if git("status", "--porcelain", "-uno") else ""
    )
    head = (
        f"# Board\n\nWritten by tools/board.py at {commit}, {time.strftime('%Y-%m-%d')}. Scores are means over seeds "
        "± their standard deviation; the interval is that of the first seed over items (95 %, bootstrap); the rate is "
        "the best of so many on a hash split of the training file. examples/s: of training, ours from the median time "
        "of a step (compiling apart), the peer's from its train(); sides by turns on one machine. seconds: of whole "
        "processes, all seeds, starting and compiling included.\n\n"
    )
    names = ("task", "side", "metric", "score", "interval", "rate", "seeds", "examples/s", "seconds")
    return head + "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines]) + "\n"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv))
    except UserError as error:
        sys.exit(f"error: {error}")
