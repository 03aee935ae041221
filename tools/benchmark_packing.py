"""Plans many synthetic documents and prints seconds, memory and fill.

    python tools/benchmark_packing.py --documents=100000000

In: counts on the command line. Out: one line per phase. Lengths are log-normal (median 200 tokens, sigma 1), about
what web text gives; nothing is read but the random numbers.
"""

import argparse
import pathlib
import resource
import time

import numpy as np

from jaxlm.cached import Cache
from jaxlm.data.rows import packing
from jaxlm.data.rows.plan import Plan


class Lengths:
    """Items that are lengths only: all that a plan needs."""

    overhead, splittable = 2, True

    def __init__(self, documents: int, seed: int) -> None:
        self.fingerprint = f"synthetic-{documents}-{seed}"
        self.lengths = np.empty(documents, np.uint32)
        rng = np.random.default_rng(seed)
        for at in range(0, documents, 1 << 22):
            part = self.lengths[at : at + (1 << 22)]
            part[:] = np.maximum(rng.lognormal(np.log(200.0), 1.0, len(part)), 1)

    def pieces(self, places: object) -> list:
        """There is no text."""
        raise NotImplementedError


def main() -> None:
    """Runs one plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--row_length", type=int, default=512)
    parser.add_argument("--method", default="best_fit", choices=["none", "concatenate", "best_fit"])
    parser.add_argument("--max_items", type=int, default=64)
    parser.add_argument("--cache", default=None, help="folder for the plan; in memory when absent")
    args = parser.parse_args()
    start = time.perf_counter()
    items = Lengths(args.documents, seed=0)
    print(
        f"lengths: {items.lengths.sum(dtype=np.int64):,} tokens, {time.perf_counter() - start:.1f} s, {_memory()}"
    )
    plan, seconds = _timed(args, items)
    print(
        f"{args.method}: {args.documents:,} documents in {seconds:.1f} s, {_memory()}; {len(plan.item):,} pieces, "
        f"{plan.rows:,} rows of {args.row_length}, {plan.efficiency:.2%} full, at most {plan.max_items} in a row"
    )
    if args.cache:
        print(f"found again in {_timed(args, items)[1]:.2f} s")


def _timed(args: argparse.Namespace, items: Lengths) -> tuple[Plan, float]:
    start = time.perf_counter()
    plan = packing.plan(
        items,
        row_length=args.row_length,
        method=args.method,
        max_items=args.max_items,
        seed=0,
        cache=Cache(pathlib.Path(args.cache)) if args.cache else None,
    )
    return plan, time.perf_counter() - start


def _memory() -> str:
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


if __name__ == "__main__":
    main()
