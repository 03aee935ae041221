"""Trains the same model on the same text on the same device with jaxlm and with PyTorch + Hugging Face, side by side.

    python tools/benchmark.py bert_base --against=transformers
    python tools/benchmark.py all --part=raw          # a recipe of every family
    python tools/benchmark.py bert_base --sweep_flags # options of the compiler instead: tools/sweep.py

Two questions, each with a process per contender, alternating blocks of steps, and the losses beside the speeds:
(a) raw: seconds per step at equal shapes, equal weights, equal batches (full rows of one document, no padding, so the
    peer needs no mask), in float32 and at each side's best precision; without dropout the first losses must be equal;
(b) pipeline: useful tokens per second (padding does not count) of whole input pipelines: ours packs documents and keeps
    them apart; theirs concatenates and cuts (run_mlm.py's default), or takes one document a row, padded to the longest;
    on a GPU also documents without padding one after another through FlashAttention (without attention dropout).
Needs the extra `parity`. Prints a Markdown table; `--output` appends it with hardware, date and commit.
"""

import argparse
import dataclasses
import datetime
import multiprocessing
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import sides
import sweep

from jaxlm.config import Run, flags
from jaxlm.runtime import memory

ROOT = pathlib.Path(__file__).parents[1]
# Transformer needs a corpus of pairs; of ELECTRA transformers has no training step.
ALL = ("bert_base", "roberta_base", "albert_base", "distilbert_base", "modernbert_base", "gpt2_small")
ALL += ("smollm2_135m", "t5_small", "bart_base")
# Of the loss of the first step; every weight that is read enters it.
EQUAL = {"float32": 1e-4, "bfloat16": 2e-2}


@dataclasses.dataclass
class Result:
    """What one contender did: the seconds of every measured step, and what the steps were."""

    name: str
    seconds: list[float] = dataclasses.field(default_factory=list)
    steps: list[sides.Step] = dataclasses.field(default_factory=list)
    first_loss: float = 0.0  # before any weight has moved

    @property
    def losses(self) -> list[float]:
        """Of every measured step."""
        return [step.loss for step in self.steps]

    @property
    def tokens(self) -> list[float]:
        """Useful ones of every measured step."""
        return [step.useful for step in self.steps]

    @property
    def pace(self) -> float:
        """Median seconds per step."""
        return statistics.median(self.seconds)

    @property
    def tokens_per_second(self) -> float:
        """Useful tokens over all measured steps."""
        return sum(self.tokens) / sum(self.seconds)


class Contender:
    """One side in a process of its own, so that no side works in the memory and threads another has left behind."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.result = Result(name)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name, options), daemon=True)
        self._process.start()
        theirs.close()  # so that a contender that fails is an EOFError here, and no wait for ever

    def ready(self) -> None:
        """Waits until it has compiled and is warm."""
        self.result.first_loss = self._pipe.recv()

    def run(self, steps: int) -> None:
        """Measures a block of steps; the other processes sleep."""
        self._pipe.send(steps)
        for seconds, step in self._pipe.recv():
            self.result.seconds.append(seconds)
            self.result.steps.append(step)

    def close(self) -> None:
        """Ends the process."""
        self._pipe.send(0)
        self._process.join()


def serve(pipe: Any, name: str, options: argparse.Namespace) -> None:
    """The life of a contender: make the side, warm up, then measure as many steps as asked for, until that is 0."""
    if name.startswith("jaxlm"):
        memory.keep_freed_memory()  # as every command of ours does
    side = sides.Bench(recipe(options), options).make(name)
    first = side.step()
    side.step()
    pipe.send(first.loss)
    while steps := pipe.recv():
        measured = []
        for _ in range(steps):
            begin = time.perf_counter()
            step = side.step()
            measured.append((time.perf_counter() - begin, step))
        pipe.send(measured)


def race(names: list[str], options: argparse.Namespace, rows: int) -> dict[str, Result]:
    """Runs the contenders in alternating blocks of steps; the first two steps of each compile and warm up.

    Ours compile one by one, since XLA times its choices; the peers, which by default do not, all at once.
    RuntimeError unless all did the same work, in steps of `rows` rows.
    """
    started, peers = [], []
    for name in names:
        print(f"  starting {name}", flush=True)
        started.append(Contender(name, options))
        if name.startswith("jaxlm"):
            started[-1].ready()
        else:
            peers.append(started[-1])
    for contender in peers:
        contender.ready()
    for _ in range(options.rounds):
        for contender in started:
            contender.run(options.block)
            done = contender.result
            print(f"  {done.name}: {done.pace:.3f} s per step, loss {done.losses[-1]:.3f}", flush=True)
    for contender in started:
        contender.close()
    check_work([contender.result for contender in started], rows)
    return {contender.result.name: contender.result for contender in started}


def check_work(results: list[Result], rows: int) -> None:
    """RuntimeError unless every step of every contender was `rows` rows as long as the first contender's.

    One document a row may be shorter: it is padded to the longest of its batch.
    """
    length = results[0].steps[0].length
    for result in results:
        for step in result.steps:
            shorter = "one document" in result.name and step.length <= length
            if step.rows != rows or (step.length != length and not shorter):
                found = f"a step of {step.rows} rows of {step.length} tokens"
                raise RuntimeError(f"{result.name}: {found}; all must be {rows} of {length}.")


def check_losses(results: list[Result]) -> None:
    """RuntimeError unless the first steps of all gave one loss, as equal weights and rows do without dropout."""
    reference = next((result for result in results if "float32" in result.name), results[0])
    expected = reference.first_loss
    for result in results:
        allowed = next(EQUAL[name] for name in EQUAL if name in result.name)
        if not abs(result.first_loss - expected) <= allowed * expected:
            raise RuntimeError(
                f"{result.name}: the first loss is {result.first_loss:.5f}, that of {reference.name} {expected:.5f}. "
                "The same weights and rows give the same loss: this is not the same work."
            )


def raw_table(results: dict[str, Result]) -> Iterator[str]:
    """One line per contender: seconds, spread, ratio to ours, losses."""
    yield "| raw step | s per step (median) | min to max | ours is | losses of the measured steps |"
    yield "|---|---|---|---|---|"
    ours = next(iter(results.values())).pace
    for name, r in results.items():
        ratio = r.pace / ours
        losses = " ".join(f"{loss:.3f}" for loss in r.losses[:6])
        yield f"| {name} | {r.pace:.3f} | {min(r.seconds):.3f} to {max(r.seconds):.3f} | {ratio:.2f}× | {losses} |"


def pipeline_table(results: dict[str, Result]) -> Iterator[str]:
    """One line per contender: useful tokens per second and the ratio to ours."""
    yield "| whole pipeline | useful tokens/s | useful per step | ours is | mean loss |"
    yield "|---|---|---|---|---|"
    ours = next(iter(results.values())).tokens_per_second
    for name, r in results.items():
        useful = statistics.mean(r.tokens)
        loss = statistics.mean(r.losses)
        ratio = ours / r.tokens_per_second
        yield f"| {name} | {r.tokens_per_second:,.0f} | {useful:,.0f} | {ratio:.2f}× | {loss:.3f} |"


def hardware() -> str:
    """Device, cores, versions, date and commit, in one line."""
    import torch
    import transformers

    device = jax.devices()[0].device_kind
    if device == "cpu":
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
        device = f"CPU {model or platform.machine()}, {torch.get_num_threads()} threads"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    versions = f"jax {jax.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{device}; {versions}; {datetime.date.today()}, commit {commit.strip() or 'unknown'}"


def recipe(options: argparse.Namespace) -> Run:
    """The run that is measured."""
    overrides = [f"--config.data.corpus={options.corpus}"] if options.corpus else []
    path = options.recipe if options.recipe.endswith(".py") else f"{ROOT}/configs/{options.recipe}.py"
    run = flags.parse(["benchmark", f"--config={path}", *overrides]).run
    for name in _dropouts(run):
        if options.dropout is not None:
            setattr(run.model, name, options.dropout)
    return run


def _dropouts(run: Run) -> list[str]:
    return [f.name for f in dataclasses.fields(run.model) if "dropout" in f.name]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        help="recipes of configs/ (bert_base, gpt2_small, t5_small, ...), or paths; all: one of every family",
    )
    parser.add_argument("--against", choices=["transformers"], default="transformers")
    parser.add_argument("--part", choices=["raw", "pipeline", "both"], default="both")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--row_length", type=int, default=128)
    parser.add_argument("--pipeline_row_length", type=int, default=512)
    parser.add_argument("--pipeline_batch_size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--block", type=int, default=3, help="steps of a contender before the next one's turn"
    )
    parser.add_argument("--corpus", default="", help="default: the recipe's")
    parser.add_argument("--dropout", type=float, default=None, help="default: the recipe's")
    parser.add_argument(
        "--precision", choices=["float32", "bfloat16"], default="", help="of raw steps; default: both"
    )
    parser.add_argument("--compile", choices=["on", "off"], default="on", help="torch.compile for the peer")
    parser.add_argument("--output", type=pathlib.Path, default=None, help="append the tables to this file")
    parser.add_argument("--sweep_flags", nargs="?", const="", help="=WORD: of those with it; see sweep.py")
    parser.add_argument("--target", default="", help="of --sweep_flags: a machine that is not here (v5e-8)")
    options, words = parser.parse_known_args()
    if words and (options.sweep_flags is None or not all(word.startswith("--config.") for word in words)):
        parser.error(f"unknown: {' '.join(words)} (--config.… is for --sweep_flags)")
    for name in ALL if options.recipes == ["all"] else options.recipes:
        options.recipe = name
        lines = measured(options) if options.sweep_flags is None else swept(options, words)
        print("\n".join(lines))
        if options.output:
            with options.output.open("a") as file:
                file.write("\n".join(lines) + "\n")


def swept(options: argparse.Namespace, words: list[str]) -> list[str]:
    """The table of the compiler's options."""
    words = [options.recipe, *words, *([f"--config.data.corpus={options.corpus}"] if options.corpus else [])]
    only, rounds, block = options.sweep_flags, options.rounds, options.block
    return list(sweep.table(words, options.target, only=only, rounds=rounds, block=block))


def measured(options: argparse.Namespace) -> list[str]:
    """The tables of one recipe."""
    run = recipe(options)
    lines = [f"### {options.recipe}, {hardware()}", "", f"`python {' '.join(sys.argv)}`", ""]
    rates = ", ".join(f"{name} {getattr(run.model, name)}" for name in _dropouts(run)) or "no dropout"
    bench = sides.Bench(run, options)
    text = bench.describe_text()  # tokenises here: contenders may not start processes
    if options.part in ("raw", "both"):
        results = race(sides.raw_names(options.precision), options, options.batch_size)
        if not any(getattr(run.model, name) for name in _dropouts(run)):
            check_losses(list(results.values()))
        shape = f"{options.batch_size} rows × {options.row_length} tokens, {rates}"
        lines += [f"Raw step, {shape}:", "", *raw_table(results), ""]
    if options.part in ("pipeline", "both") and bench.has_pipelines():
        results = race(bench.pipeline_names(), options, options.pipeline_batch_size)
        shape = f"{options.pipeline_batch_size} rows × {options.pipeline_row_length} tokens, {rates}"
        lines += [f"Whole pipelines, {shape}, {text}:", ""]
        lines += [*pipeline_table(results), ""]
    elif options.part != "raw":
        lines += ["Whole pipelines: compared for masked LM alone.", ""]
    return lines


if __name__ == "__main__":
    main()
