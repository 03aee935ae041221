"""Trains the same model on the same text on the same device with jaxlm and with PyTorch + Hugging Face, side by side.

    python tools/benchmark.py bert_base --against=transformers

Two questions, each with alternating blocks of steps, medians, and the losses beside the speeds:
(a) raw: seconds per step at equal shapes, equal weights, equal batches (full rows of one document, no padding, so the
    peer needs no mask), in float32 and at each side's best precision;
(b) pipeline: useful tokens per second (padding does not count) of whole input pipelines: ours packs documents and keeps
    them apart; theirs concatenates and cuts (run_mlm.py's default), or takes one document a row, padded to the longest.
Needs the extra `parity`. Prints a Markdown table; `--output` appends it with hardware, date and commit.
"""

import argparse
import dataclasses
import datetime
import gc
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import sides

from jaxlm.config import flags

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass
class Result:
    """What one contender did: seconds and useful tokens of every measured step, and its losses."""

    name: str
    seconds: list[float]
    tokens: list[float]
    losses: list[float]

    @property
    def pace(self) -> float:
        """Median seconds per step."""
        return statistics.median(self.seconds)

    @property
    def tokens_per_second(self) -> float:
        """Useful tokens over all measured steps."""
        return sum(self.tokens) / sum(self.seconds)


def race(contenders: dict[str, Callable[[], sides.Side]], rounds: int, block: int) -> dict[str, Result]:
    """Runs the contenders in alternating blocks of steps; the first two steps of each compile and warm up."""
    started = {}
    for name, make in contenders.items():
        print(f"  starting {name}", flush=True)
        side = make()
        for _ in range(2):
            side.step()
        started[name] = side
    results = {name: Result(name, [], [], []) for name in contenders}
    for _ in range(rounds):
        for name, side in started.items():
            for _ in range(block):
                begin = time.perf_counter()
                loss, tokens = side.step()
                results[name].seconds.append(time.perf_counter() - begin)
                results[name].tokens.append(tokens)
                results[name].losses.append(loss)
            print(f"  {name}: {results[name].pace:.3f} s per step, loss {results[name].losses[-1]:.3f}", flush=True)
    for side in started.values():
        side.close()
    gc.collect()
    return results


def raw_table(results: dict[str, Result], reference: str) -> Iterator[str]:
    """One line per contender: seconds, spread, ratio to ours, losses."""
    yield "| raw step | s per step (median) | min to max | ours is | losses of the measured steps |"
    yield "|---|---|---|---|---|"
    for name, r in results.items():
        ratio = r.pace / results[reference].pace
        losses = " ".join(f"{loss:.3f}" for loss in r.losses[:6])
        yield f"| {name} | {r.pace:.3f} | {min(r.seconds):.3f} to {max(r.seconds):.3f} | {ratio:.2f}× | {losses} |"


def pipeline_table(results: dict[str, Result], reference: str) -> Iterator[str]:
    """One line per contender: useful tokens per second and the ratio to ours."""
    yield "| whole pipeline | useful tokens/s | useful per step | ours is | mean loss |"
    yield "|---|---|---|---|---|"
    ours = results[reference].tokens_per_second
    for name, r in results.items():
        useful = statistics.mean(r.tokens)
        loss = statistics.mean(r.losses)
        yield f"| {name} | {r.tokens_per_second:,.0f} | {useful:,.0f} | {ours / r.tokens_per_second:.2f}× | {loss:.3f} |"


def hardware() -> str:
    """Device, cores, versions, date and commit, in one line."""
    import torch
    import transformers

    device = jax.devices()[0].device_kind
    if device == "cpu":
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
        device = f"CPU {model or platform.machine()}, {torch.get_num_threads()} threads"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    versions = f"jax {jax.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{device}; {versions}; {datetime.date.today()}, commit {commit.strip() or 'unknown'}"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a recipe of configs/ with a BERT: bert_base, bert_base_fast, bert_tiny, ...")
    parser.add_argument("--against", choices=["transformers"], default="transformers")
    parser.add_argument("--part", choices=["raw", "pipeline", "both"], default="both")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--row_length", type=int, default=128)
    parser.add_argument("--pipeline_row_length", type=int, default=512)
    parser.add_argument("--pipeline_batch_size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block", type=int, default=3, help="steps of a contender before the next one's turn")
    parser.add_argument("--corpus", default="", help="default: the recipe's")
    parser.add_argument("--dropout", type=float, default=None, help="default: the recipe's")
    parser.add_argument("--compile", choices=["on", "off"], default="on", help="torch.compile for the peer")
    parser.add_argument("--output", type=pathlib.Path, default=None, help="append the tables to this file")
    options = parser.parse_args()
    overrides = [f"--config.data.corpus={options.corpus}"] if options.corpus else []
    run = flags.parse(["benchmark", f"--config={ROOT}/configs/{options.recipe}.py", *overrides]).run
    if options.dropout is not None:
        run.model.dropout = run.model.attention_dropout = options.dropout
    lines = [f"### {options.recipe}, {hardware()}", "", f"`python {' '.join(sys.argv)}`", ""]
    bench = sides.Bench(run, compile_peer=options.compile == "on")
    if options.part in ("raw", "both"):
        contenders = bench.raw(options.batch_size, options.row_length)
        results = race(contenders, options.rounds, options.block)
        shape = f"{options.batch_size} rows × {options.row_length} tokens, dropout {run.model.dropout}"
        lines += [f"Raw step, {shape}:", "", *raw_table(results, "jaxlm float32"), ""]
    if options.part in ("pipeline", "both"):
        contenders = bench.pipelines(options.pipeline_batch_size, options.pipeline_row_length)
        results = race(contenders, options.rounds, options.block)
        shape = f"{options.pipeline_batch_size} rows × {options.pipeline_row_length} tokens"
        lines += [f"Whole pipelines, {shape}, {bench.describe_text()}:", "", *pipeline_table(results, "jaxlm float32"), ""]
    text = "\n".join(lines)
    print(text)
    if options.output:
        with options.output.open("a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    np.random.seed(0)
    main()
