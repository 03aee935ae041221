"""What a checkpoint holds, without building a model or touching a device.

    jaxlm inspect runs/wiki
    jaxlm inspect runs/wiki/checkpoints/1200 --verify --meta

Prints the steps, then names, shapes, dtypes and bytes of the newest one's arrays. Changes nothing. Exit code 78 when
--verify finds a file that does not have its SHA-256.
"""

import json
import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from jaxlm import entry
from jaxlm.checkpoint import opened, store
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE, EXIT_USER, UserError


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    parser = table.Parser(__name__, __doc__)
    where = "a run folder, a model folder, its checkpoints folder, or the folder of one step"
    parser.add_argument("path", metavar="RUN", help=where)
    parser.add_argument("--step", type=int, metavar="N", help="another step than the newest")
    parser.add_argument(
        "--verify", action="store_true", help="compare every file of every step with its SHA-256"
    )
    parser.add_argument("--meta", action="store_true", help="print the metadata as JSON")
    parser.runs, parser.weights = ["path"], "all" if "--verify" in argv else "none"
    options = parser.options(argv)
    checkpoints, step = opened.find_run(options.path)
    step = step if options.step is None else options.step
    show_steps(checkpoints)
    show_arrays(checkpoints, step)
    if options.meta:
        print(json.dumps(checkpoints.meta(step), indent=2))
    return verify(checkpoints) if options.verify else EXIT_DONE


def show_steps(checkpoints: store.Checkpoints) -> None:
    """One line per step with its metrics."""
    print(f"{checkpoints.directory}")
    for step in checkpoints.steps():
        try:
            metrics = checkpoints.metrics(step)
        except UserError as error:
            print(f"  step {step}  {error}")
        else:
            print(f"  step {step}  " + "  ".join(f"{name} {value:.6g}" for name, value in metrics.items()))


def show_arrays(checkpoints: store.Checkpoints, step: int) -> None:
    """Name, dtype, shape and bytes of every array of a step, and totals per part of the state."""
    arrays = checkpoints.arrays(step)
    totals: dict[str, list[int]] = {}
    width = max((len(name) for name in arrays), default=0)
    print(f"step {step}:")
    for name, array in sorted(arrays.items()):
        count = math.prod(array["shape"])
        size = count * np.dtype(array["dtype"]).itemsize
        print(f"  {name:<{width}}  {array['dtype']:<9} {array['shape']!s:<24} {size:>14,} bytes")
        total = totals.setdefault(name.split("/")[0], [0, 0])
        total[0] += count
        total[1] += size
    for part, (count, size) in totals.items():
        print(f"{part}: {count:,} numbers, {size:,} bytes")


def verify(checkpoints: store.Checkpoints) -> int:
    """Reads every file of every step."""
    damaged = 0
    for step in checkpoints.steps():
        try:
            checkpoints.verify(step)
            print(f"step {step}: intact")
        except UserError as error:
            damaged += 1
            print(error)
    return EXIT_USER if damaged else EXIT_DONE


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
