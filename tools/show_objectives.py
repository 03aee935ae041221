"""docs/objectives.md: what every objective feeds the model, decoded, and what a tiny model learns from it.

    python tools/show_objectives.py [--train [NAME ...]] [--output docs/objectives.md]

Examples come from the built-in corpus and a fixed seed: the same packages give the same page. Without --train the table
of trained models is taken over from the page as it is; with it the named recipes (or all) are trained on this machine,
a minute or a few each, and their rows are replaced.
"""

import argparse
import dataclasses
import importlib
import itertools
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from jaxlm import entry
from jaxlm.batch import stacked
from jaxlm.config import Run, Stage, flags
from jaxlm.data import draws
from jaxlm.data.rows.rows import Rows
from jaxlm.data.show import show_batch
from jaxlm.run import inputs, inventory

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECIPES = "tests/recipes/objectives"
WIDTH = 112
LENGTH = 48  # tokens of a shown row
BEGIN, END = "<!-- trained -->", "<!-- /trained -->"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One section of the page: a recipe, and what its held-out measures are compared with."""

    name: str  # of the recipe
    title: str
    rows: int = 1  # shown
    folder: str = RECIPES  # of the recipe
    # What the objective has otherwise in the row that is shown, so that items fit it
    shown: Mapping[str, int] = dataclasses.field(default_factory=dict)
    length: int = LENGTH
    # (measure, what it is compared with, by how many nats it must be below that)
    measures: tuple[tuple[str, str, float], ...] = (("lm_loss", "unigram", 0.8),)


MASKED = (("mlm_loss", "unigram", 0.5),)
ENTRIES = (
    Entry("causal_lm", "Causal language modelling"),
    Entry("prefix_lm", "Prefix language modelling"),
    Entry("infill", "Fill in the middle", rows=2),
    Entry("span_corruption", "Span corruption"),
    Entry("denoising", "Denoising"),
    Entry("ul2", "Mixture of denoisers", rows=3),
    Entry("ul2_decoder", "Mixture of denoisers, for a decoder"),
    Entry("masked_lm", "Masked language modelling", measures=MASKED),
    Entry("whole_words", "Masked language modelling: whole words", measures=MASKED),
    Entry("ngrams", "Masked language modelling: n-grams", measures=MASKED),
    Entry("phrases", "Masked language modelling: tokens, words and phrases", measures=MASKED),
    Entry("next_sentence", "Next sentence", measures=(*MASKED, ("nsp_loss", "half", 0.01))),
    Entry("sentence_order", "Sentence order", measures=(*MASKED, ("sop_loss", "half", 0.01))),
    Entry("replaced_tokens", "Replaced-token detection", measures=(*MASKED, ("rtd_loss", "replaced", 0.01))),
    Entry("contrastive", "Sentence embeddings", measures=(("contrastive_loss", "candidates", 1.0),)),
)


def _tuned(name: str, title: str, length: int = 64, **shown: int) -> Entry:
    return Entry(name, title, folder="configs", measures=(), shown=shown, length=length)


TUNED = (
    _tuned("classification", "Labels of texts", max_tokens=30),
    _tuned("multi_label", "Sets of labels", max_tokens=30),
    _tuned("tagging", "Tags of words", max_tokens=30),
    _tuned("relation_extraction", "Relations of two parts", max_tokens=40),
    _tuned("similarity", "Similarity of two texts", max_tokens=20),
    _tuned("multiple_choice", "Choices", length=128, max_tokens=28),
    _tuned(
        "question_answering", "Answers in a text", length=192, max_tokens=96, overlap=8, question_tokens=12
    ),
    _tuned("summarisation", "Texts from texts"),
    _tuned("chat", "Conversations", length=128),
    _tuned("preferences", "Preferences", length=192),
)

INTRO = """# Objectives

What a model is trained on is chosen by type in the recipe; all work packed and unpacked alike. This page is written by
`python tools/show_objectives.py`: below each objective stands a row of real text (the built-in corpus, seed 0, rows of
{length} tokens; of fine-tuning 64 to 192, and texts cut to fit them) as the model sees it. `a→b` is a shown token and
what is predicted in its place; where every position has its target, `predicts` stands under `sees` (`·`: nothing is
predicted there), and `[ ... ]` is a prefix that is seen from both sides. An encoder-decoder reads `source`. All draws
come from (seed, row number): row *i* of a run is always the same.

## Trained from scratch

Tiny models (widths of 96, 2 to 4 layers), a few hundred steps of 2,048 tokens on two CPU cores, by the recipes in
`{recipes}/`; how well those of fine-tuning learn stands in their recipes and in [board.md](board.md). The loss is on
held-out documents. The trivial predictor of tokens knows how frequent every token is and no context (special tokens
count with their share among the targets); of a yes-or-no question it says one half, of replaced tokens their share, and
of embeddings that all candidates of the batch are as near.
"""


def main(argv: list[str]) -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", nargs="*", metavar="NAME", choices=[entry.name for entry in ENTRIES])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "objectives.md")
    options = parser.parse_args(argv[1:])
    trained = _stored(options.output)
    if options.train is not None:
        for one in ENTRIES:
            if not options.train or one.name in options.train:
                trained[one.name] = _train(one)
                _write(options.output, trained, {})  # what is done stays, whatever comes
    _write(options.output, trained, {one.name: _section(one) for one in (*ENTRIES, *TUNED)})
    return 0


def _write(path: pathlib.Path, trained: dict[str, list[str]], sections: dict[str, str]) -> None:
    if not sections and path.exists():
        text = path.read_text()
        path.write_text(text[: text.index(BEGIN)] + _table(trained) + text[text.index(END) + len(END) :])
        return
    parts = [INTRO.format(length=LENGTH, recipes=RECIPES), _table(trained), "", *sections.values()]
    path.write_text("\n".join(parts).rstrip() + "\n")


# ------------------------------------------------------------------------------------------------------------ examples


def _section(one: Entry) -> str:
    run = _load(one)
    kind = type(run.objective)
    about = _paragraphs(sys.modules[kind.__module__].__doc__ or "")
    if kind.__name__ == "MaskedLM" and type(run.objective.unit).__name__ != "Tokens":
        about = [_first_line(run.objective.unit), *_unit_module(run.objective.unit)]
    return "\n".join(
        [
            f"## {one.title}",
            "",
            *(f"{paragraph}\n" for paragraph in about),
            f"`{kind.__module__}`, trained by `{one.folder}/{one.name}.py`:",
            "",
            "```python",
            f"objective={_source(run.objective)},",
            "```",
            "",
            "```",
            _example(one, run),
            "```",
            "",
        ]
    )


def _load(one: Entry) -> Run:
    return flags.load(ROOT / one.folder / f"{one.name}.py")


def _example(one: Entry, run: Run) -> str:
    run.stages = (Stage(length=one.length, share=1.0),)
    run.objective = dataclasses.replace(run.objective, **one.shown)
    run = inventory.filled(run, lambda line: print(line, file=sys.stderr))
    text = inputs.text(run, lambda line: print(line, file=sys.stderr))
    (read,) = inputs.rows(run, text, run.stages[0], "validation")
    objective, rows = read.stream.objective, read.rows
    assert isinstance(rows, Rows), "one source"
    pieces = [(i, rows.plan.pieces(rows.plan_row(i))) for i in range(len(rows))]
    whole = [(i, len(places)) for i, places in pieces if all(start == 0 for _, start, _ in places)]
    packed = [i for i, number in sorted(whole, key=lambda row: row[1] != 2)]  # of two items, if there are any
    shown = []
    for i in packed[: one.rows]:
        row = objective.prepare(rows[i], text.vocabulary, draws.generator(run.seed, "shown", i), train=True)
        shown.append(
            show_batch(stacked([row]), text.tokenizer.token, rows=1).replace("row 0:", f"row {i}:", 1)
        )
    return "\n\n".join(map(_wrapped, shown))


def _wrapped(text: str) -> str:
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        lines += textwrap.wrap(
            line,
            WIDTH,
            subsequent_indent=indent + " " * 10,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        ) or [""]
    return "\n".join(lines)


def _source(node: object, depth: int = 0) -> str:
    """A config as one would write it."""
    if isinstance(node, tuple):
        inner = [_source(item, depth + 1) for item in node]
        flat = f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
        pad = "    " * (depth + 1)
        return (
            flat
            if len(flat) < 80
            else "(\n" + "".join(f"{pad}{item},\n" for item in inner) + "    " * depth + ")"
        )
    if not dataclasses.is_dataclass(node):
        return json.dumps(node) if isinstance(node, str) else repr(node)
    shown = [
        f
        for f in dataclasses.fields(node)
        if f.default is dataclasses.MISSING or getattr(node, f.name) != f.default
    ]
    inner = [f"{f.name}={_source(getattr(node, f.name), depth + 1)}" for f in shown]
    flat = f"{type(node).__name__}({', '.join(inner)})"
    if len(flat) + 4 * depth < 92 and "\n" not in flat:
        return flat
    pad = "    " * (depth + 1)
    return f"{type(node).__name__}(\n" + "".join(f"{pad}{item},\n" for item in inner) + "    " * depth + ")"


def _paragraphs(doc: str) -> list[str]:
    """Paragraphs of a docstring, wrapped; indented lines become a block of their own."""
    paragraphs = []
    for part in doc.strip().split("\n\n"):
        for indented, lines in itertools.groupby(part.splitlines(), lambda line: line.startswith("    ")):
            text = list(lines)
            fenced = "\n".join(["```", *(line[4:] for line in text), "```"])
            paragraphs.append(
                fenced if indented else textwrap.fill(" ".join(text), WIDTH, break_on_hyphens=False)
            )
    return paragraphs


def _first_line(unit: object) -> str:
    return " ".join((type(unit).__doc__ or "").split())


def _unit_module(unit: object) -> list[str]:
    module = importlib.import_module(type(unit).__module__)
    return _paragraphs(module.__doc__ or "") if module.__name__.endswith("phrases") else []


# ------------------------------------------------------------------------------------------------------------ training


def _train(one: Entry) -> list[str]:
    """Table rows of one recipe, trained in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "jaxlm.train",
            f"--config={RECIPES}/{one.name}.py",
            f"--workdir={folder}/run",
        ]
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        minutes = (time.monotonic() - started) / 60
        if done.returncode:
            raise SystemExit(
                f"{one.name}: exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        lines = [
            json.loads(line) for line in pathlib.Path(folder, "run", "metrics.jsonl").read_text().splitlines()
        ]
        log = pathlib.Path(folder, "run", "run.log").read_text()
    last = next(line for line in reversed(lines) if "eval/loss" in line)
    rows = []
    for measure, compared, _ in one.measures:
        trivial = TRIVIAL[compared](one, last, log)
        loss, accuracy = last[f"eval/{measure}"], last[f"eval/{measure.removesuffix('_loss')}_accuracy"]
        rows.append(
            f"| {one.title} | `{measure}` | {last['step']} | {trivial:.2f} | {loss:.2f} | {trivial - loss:+.2f} | "
            f"{100 * accuracy:.0f} % | {minutes:.1f} |"
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _unigram(one: Entry, metrics: dict[str, float], log: str) -> float:
    found = re.search(r"unigram cross-entropy of the same tokens ([\d.]+)", log)
    return float(found.group(1)) if found else math.nan


def _replaced(one: Entry, metrics: dict[str, float], log: str) -> float:
    """Entropy of the share of replaced tokens, which follows from accuracy, precision and recall."""
    accuracy, recall = metrics["eval/rtd_accuracy"], metrics["eval/rtd_recall"]
    precision = metrics.get("eval/rtd_precision", 1.0)
    share = (1 - accuracy) / ((1 - recall) + (recall * (1 - precision) / precision if recall else 0.0))
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def _candidates(one: Entry, metrics: dict[str, float], log: str) -> float:
    """Log of the number of candidates, a mean over anchors."""
    run = _load(one)
    text = inputs.text(run, lambda line: print(line, file=sys.stderr))
    rows = inputs.rows(run, text, run.stages[-1], "validation")
    batches = inputs.evaluation_batches(run, text, rows)
    counts = [float(batch.targets.weights_BC.sum()) for by_task in batches for batch in by_task.values()]
    return sum(n * math.log(n) for n in counts if n) / sum(counts)


TRIVIAL = {
    "unigram": _unigram,
    "half": lambda one, metrics, log: math.log(2),
    "replaced": _replaced,
    "candidates": _candidates,
}


def _table(trained: dict[str, list[str]]) -> str:
    head = [
        "| objective | measure | steps | trivial predictor, nats | trained, nats | below it by | accuracy | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [row for one in ENTRIES for row in trained.get(one.name, [])]
    return "\n".join([BEGIN, *head, *rows, END])


def _stored(path: pathlib.Path) -> dict[str, list[str]]:
    """The rows of the page as it is, by recipe."""
    if not path.exists() or BEGIN not in path.read_text():
        return {}
    lines = path.read_text().split(BEGIN)[1].split(END)[0].splitlines()
    return {one.name: [line for line in lines if line.startswith(f"| {one.title} |")] for one in ENTRIES}


if __name__ == "__main__":
    entry.run(main)
