"""Times generation on one thread of a CPU: a token at batch 1 and 8, and slots beside batches for many requests.

    python tools/benchmark_slots.py hf:path/to/model --also=small --against=transformers --gguf=model-Q4_0.gguf

First the bound: what one thread reads of the weights in a second. Then tokens per CPU second of `generate`, of slots,
and of transformers' `generate` with the same prompt (extra `parity`), in turns, the median of several. --also: model
folders, as `jaxlm compress` makes them of the same model. --gguf: files that llama.cpp runs, where npm's node-llama-cpp
is installed (JAXLM_NODE_MODULES says where). Last, 8 and 64 requests of mixed length: slots of 8 rows
beside `generate` in batches of 8 as they come. CPU seconds count less of what a busy machine does than time; still,
only ratios within a run mean something. Run it with `taskset -c 0`.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.export import llama_cpp
from jaxlm.infer import frame, loaded
from jaxlm.infer.generate import generate
from jaxlm.infer.sampling import Sampling
from jaxlm.infer.slots import Request, Slots
from jaxlm.partition.mesh import Mesh

GREEDY = Sampling()


class Ours:
    """`generate` of so many rows."""

    def __init__(self, ready: Any, around: Any, prompts: list[list[int]], **how: Any) -> None:
        self._call = lambda new: generate(
            ready, prompts, around, new_tokens=new, sampling=GREEDY, seed=0, **how
        )

    def __call__(self, new: int) -> None:
        """Writes that many tokens in every row."""
        self._call(new)


class Engine:
    """Slots of so many rows."""

    def __init__(self, ready: Any, around: Any, prompts: list[list[int]], **how: Any) -> None:
        room = max(map(len, prompts)) + 1024
        self._engine = Slots(ready, frame=around, rows=len(prompts), room=room, **how)
        self._prompts = prompts

    def __call__(self, new: int) -> None:
        """Writes that many tokens in every row."""
        run(self._engine, [(prompt, new) for prompt in self._prompts])


class Peer:
    """transformers' `generate`."""

    def __init__(self, where: str, prompts: list[list[int]]) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32).eval()
        self._tokens, self._torch = torch.tensor(prompts), torch

    def __call__(self, new: int) -> None:
        """Writes that many tokens in every row."""
        ones = self._torch.ones_like(self._tokens)
        how = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        with self._torch.inference_mode():
            self._model.generate(self._tokens, attention_mask=ones, **how)


class LlamaCpp:
    """llama.cpp, in a process of its own, which tells its CPU seconds."""

    def __init__(self, file: str, rows: int) -> None:
        node, package = llama_cpp.find()
        script = pathlib.Path(__file__).with_name("llama_cpp_speed.mjs")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([node, str(script), str(package), file, str(rows)], **pipes)

    def __call__(self, new: int) -> float:
        """Writes that many tokens in every row; seconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(new, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def run(engine: Slots, asked: list[tuple[list[int], int]]) -> int:
    """Answers all; steps."""
    for prompt, new in asked:
        engine.submit(Request(ids=prompt, max_new_tokens=new))
    steps = 0
    while not engine.idle:
        engine.step()
        steps += 1
    return steps


def seconds(call: Callable[[], Any]) -> float:
    """Of the CPU: what the call says, or what this process took."""
    begin = time.process_time()
    said = call()
    return said if isinstance(said, float) else time.process_time() - begin


def bound(params: Any) -> tuple[float, float]:
    """Bytes of the weights, and how many of them are read in a second: by a sum over each array."""
    arrays = [a for a in jax.tree.leaves(params) if a.ndim > 1]
    total = jax.jit(lambda arrays: [jnp.sum(a) for a in arrays])
    jax.block_until_ready(total(arrays))
    best = min(seconds(lambda: jax.block_until_ready(total(arrays))) for _ in range(7))
    size = sum(a.nbytes for a in arrays)
    return size, size / best


def tokens(ways: dict[str, Callable[[int], Any]], rows: int, rounds: int) -> None:
    """Prints tokens per CPU second: of a text of 32 tokens less one of 17, which run the same programs, in turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(32)
    for _ in range(rounds):
        for name, way in ways.items():
            short = seconds(lambda way=way: way(17))
            took[name].append(seconds(lambda way=way: way(32)) - short)
    for name, each in took.items():
        best = statistics.median(each) / 15
        print(f"| {name} | {rows} | {rows / best:.1f} | {1000 * best:.1f} |", flush=True)


def mixed(ready: Any, around: Any, number: int) -> None:
    """Prints what `number` requests of mixed length take."""
    rng = np.random.default_rng(0)
    asked = [
        (rng.integers(100, 1000, int(rng.integers(8, 120))).tolist(), int(rng.integers(4, 33)))
        for _ in range(number)
    ]
    engine = Slots(ready, frame=around, rows=8, room=256)
    engine.compile()

    def batches() -> None:
        for at in range(0, number, 8):
            part = asked[at : at + 8]
            how = {"new_tokens": max(new for _, new in part), "sampling": GREEDY, "seed": 0}
            generate(ready, [prompt for prompt, _ in part], around, **how)

    batches()
    ways = {"slots of 8": lambda: run(engine, asked), "`generate` in batches of 8": batches}
    wanted = sum(new for _, new in asked)
    for name, way in ways.items():
        rate = wanted / min(seconds(way) for _ in range(2))
        print(f"| {name} | {number} requests | {rate:.1f} | |", flush=True)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a decoder: hf:DIR or a run")
    parser.add_argument("--against", choices=["transformers"], default=None, help="of hf:DIR")
    parser.add_argument("--also", default="", help="model folders made of it, comma between")
    parser.add_argument("--gguf", default="", help="files of it for llama.cpp, comma between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default="1,8", help="numbers of them")
    parser.add_argument("--requests", default="8,64", help="numbers of them, of mixed length; empty: none")
    options = parser.parse_args()
    ready = loaded.load(options.model, mesh=Mesh(data=1))
    folders = filter(None, options.also.split(","))
    also = {pathlib.Path(folder).name: loaded.load(folder, mesh=Mesh(data=1)) for folder in folders}
    around = dataclasses.replace(frame.of_loaded(ready), stops=())
    size, speed = bound(ready.params)
    print(
        f"weights {size / 1e6:.0f} MB, read at {speed / 1e9:.1f} GB/s: at most {speed / size:.1f} tokens/s a row"
    )
    print("| way | rows | tokens per CPU second | ms a step |\n|---|---|---|---|", flush=True)
    for rows in map(int, filter(None, options.rows.split(","))):
        prompts = [[id % ready.model.config.vocab_size for id in range(1000, 1032)]] * rows
        ways: dict[str, Any] = {
            "`generate`": Ours(ready, around, prompts),
            "slots": Engine(ready, around, prompts),
            "slots, int8 cache": Engine(ready, around, prompts, int8=True),
        }
        for name, other in also.items():
            ways[f"`generate`, {name}"] = Ours(other, around, prompts)
            ways[f"slots, {name}"] = Engine(other, around, prompts)
        if options.against:
            ways["transformers"] = Peer(options.model.removeprefix("hf:"), prompts)
        for file in filter(None, options.gguf.split(",")):
            ways[f"llama.cpp, {pathlib.Path(file).name}"] = LlamaCpp(file, rows)
        tokens(ways, rows, options.rounds)
    for number in filter(None, options.requests.split(",")):
        mixed(ready, around, int(number))


if __name__ == "__main__":
    main()
