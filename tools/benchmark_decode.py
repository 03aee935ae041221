"""Times a token of generation against the room that its cache has: it should cost what its text is long, not the room.

    python tools/benchmark_decode.py gpt2_small --rooms=512,4096 --against=transformers

All rooms hold the same prompt and get the same tokens, with fresh weights; blocks of tokens alternate between the
rooms, so that a busy machine slows them alike. Prints the median milliseconds a token for every room, their ratio to
the first, and the temporary memory of the compiled loop beside the size of the cache. With `--against=transformers`
(extra `parity`) its `generate` has the same weights, prompt and precision (float32), with its growing cache and its
static one; where its first token is another, that is an error.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.config import Run, flags
from jaxlm.infer import decode
from jaxlm.infer.sampling import Sampling
from jaxlm.models.build import Model, build

ROOT = pathlib.Path(__file__).parents[1]
GREEDY = Sampling()


class Room:
    """A text that grows in a cache of `slots` slots."""

    def __init__(self, model: Model, params: Any, prompt: int, slots: int) -> None:
        tokens = prompt_of(model.config, prompt)
        places = np.arange(prompt, dtype=np.int32)[None]
        batch = Batch(tokens_BT=tokens, segments_BT=np.ones_like(tokens), positions_BT=places)
        limit, stops = np.array([slots], np.int32), np.array([decode.NONE], np.int32)
        self.rows = decode.Prompts(
            batch=batch, limit_B=limit, stops=stops, key_B=jax.random.split(jax.random.key(0), 1)
        )
        self.model, self.params, self.slots = model, params, slots
        self.state = decode.prefill(
            model, params, self.rows, room=slots - prompt, sampling=GREEDY, prefix=False
        )
        self.done, self.milliseconds = 1, []
        self.program = decode.decode.lower(
            model, params, self.rows, self.state, np.int32(1), sampling=GREEDY
        ).compile()

    def go_on(self, tokens: int) -> None:
        """Writes that many tokens and notes what one took."""
        self.done += tokens
        begin = time.perf_counter()
        self.state = jax.block_until_ready(
            self.program(self.params, self.rows, self.state, np.int32(self.done))
        )
        self.milliseconds.append(1000 * (time.perf_counter() - begin) / tokens)

    def first_token(self) -> int:
        """The one that follows the prompt."""
        return int(self.state.tokens_BN[0, 0])

    def line(self, first: float) -> str:
        """Of the table."""
        median, cache = statistics.median(self.milliseconds), self.state.cache
        stored = sum(a.nbytes for a in jax.tree.leaves((cache.k_LBSKH, cache.v_LBSKH))) / 2**20
        needs = self.program.memory_analysis()
        temporary = "?" if needs is None else f"{needs.temp_size_in_bytes / 2**20:.0f}"
        return f"| {self.slots:,} | {median:.2f} | {median / first:.2f} | {stored:.0f} | {temporary} |"


class Peer:
    """transformers' `generate`: what a token takes is the difference of a long and a short text."""

    def __init__(self, run: Run, params: Any, prompt: int, cache: str) -> None:
        import peers
        import torch

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = peers.peer(run, jax.device_get(params)).eval().to(self._device)
        self._tokens = torch.from_numpy(prompt_of(run.model, prompt).astype(np.int64)).to(self._device)
        self._cache, self.milliseconds = cache, []
        self.go_on(1)  # compiles

    def _generated(self, tokens: int) -> Any:
        return self._model.generate(
            self._tokens,
            attention_mask=self._tokens >= 0,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            use_cache=True,
            cache_implementation=self._cache,
        )

    def first_token(self) -> int:
        """The one that follows the prompt."""
        return int(self._generated(1)[0, -1])

    def go_on(self, tokens: int) -> None:
        """Writes that many tokens behind the first and notes what one took."""
        seconds = [_seconds(lambda n=n: self._generated(n).cpu()) for n in (1, 1 + tokens)]
        self.milliseconds.append(1000 * (seconds[1] - seconds[0]) / tokens)

    def line(self, first: float) -> str:
        """Of the table."""
        median = statistics.median(self.milliseconds)
        return f"| transformers, {self._cache} cache | {median:.2f} | {median / first:.2f} | | |"


def prompt_of(config: Any, length: int) -> np.ndarray:
    """Ids [1, length], the same for everyone."""
    return np.random.default_rng(0).integers(config.vocab_size, size=(1, length), dtype=np.int32)


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="of a decoder: a name in configs/, or a file")
    parser.add_argument("--rooms", default="512,4096", help="slots of the caches")
    parser.add_argument("--against", choices=["transformers"], default=None)
    parser.add_argument("--prompt", type=int, default=256, help="tokens")
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=16, help="of a block")
    options = parser.parse_args()
    named = ROOT / "configs" / f"{options.recipe}.py"
    run = flags.load(named if named.is_file() else options.recipe)
    model = build(run.model, run.heads)
    params = jax.jit(model.init)(jax.random.key(0))
    rooms: list[Room | Peer] = [
        Room(model, params, options.prompt, int(slots)) for slots in options.rooms.split(",")
    ]
    if options.against:
        rooms += [Peer(run, params, options.prompt, cache) for cache in ("dynamic", "static")]
        if len({room.first_token() for room in rooms}) > 1:
            raise RuntimeError(f"the first tokens differ: {[room.first_token() for room in rooms]}")
    for room in [*rooms * (options.blocks + 1)]:
        room.go_on(options.tokens)
    for room in rooms:
        del room.milliseconds[0]
    print("| slots | ms/token | ratio | cache, MiB | temporary, MiB |\n|---|---|---|---|---|")
    for room in rooms:
        print(room.line(statistics.median(rooms[0].milliseconds)))


if __name__ == "__main__":
    main()
