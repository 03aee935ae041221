"""Times a token of generation against the room that its cache has: it should cost what its text is long, not the room.

    python tools/benchmark_decode.py gpt2_small --rooms=512,4096

All rooms hold the same prompt and get the same tokens, with fresh weights; blocks of tokens alternate between the
rooms, so that a busy machine slows them alike. Prints the median milliseconds a token for every room, their ratio to
the first, and the temporary memory of the compiled loop beside the size of the cache.
"""

import argparse
import pathlib
import statistics
import time
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.config import flags
from jaxlm.infer import decode
from jaxlm.infer.sampling import Sampling
from jaxlm.models.build import Model, build

ROOT = pathlib.Path(__file__).parents[1]
GREEDY = Sampling()


class Room:
    """A text that grows in a cache of `slots` slots."""

    def __init__(self, model: Model, params: Any, prompt: int, slots: int) -> None:
        tokens = np.random.default_rng(0).integers(model.config.vocab_size, size=(1, prompt), dtype=np.int32)
        places = np.arange(prompt, dtype=np.int32)[None]
        batch = Batch(tokens_BT=tokens, segments_BT=np.ones_like(tokens), positions_BT=places)
        limit, stops = np.array([slots], np.int32), np.array([decode.NONE], np.int32)
        self.rows = decode.Rows(
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

    def line(self, first: float) -> str:
        """Of the table."""
        median, cache = statistics.median(self.milliseconds), self.state.cache
        stored = (cache.k_LBSKH.nbytes + cache.v_LBSKH.nbytes) / 2**20
        needs = self.program.memory_analysis()
        temporary = "?" if needs is None else f"{needs.temp_size_in_bytes / 2**20:.0f}"
        return f"| {self.slots:,} | {median:.2f} | {median / first:.2f} | {stored:.0f} | {temporary} |"


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="of a decoder: a name in configs/, or a file")
    parser.add_argument("--rooms", default="512,4096", help="slots of the caches")
    parser.add_argument("--prompt", type=int, default=256, help="tokens")
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=16, help="of a block")
    options = parser.parse_args()
    named = ROOT / "configs" / f"{options.recipe}.py"
    model = build(flags.load(named if named.is_file() else options.recipe).model)
    params = jax.jit(model.init)(jax.random.key(0))
    rooms = [Room(model, params, options.prompt, int(slots)) for slots in options.rooms.split(",")]
    for room in [*rooms * (options.blocks + 1)]:
        room.go_on(options.tokens)
    for room in rooms:
        del room.milliseconds[0]
    print("| slots | ms/token | ratio | cache, MiB | temporary, MiB |\n|---|---|---|---|---|")
    for room in rooms:
        print(room.line(statistics.median(rooms[0].milliseconds)))


if __name__ == "__main__":
    main()
