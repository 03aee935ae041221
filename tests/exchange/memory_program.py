"""Reads or writes a checkpoint of many shards and prints how far the process grew: `python memory_program.py place|export DIR`.

Prints MiB: the parameters, the largest one, and the peak above what stood before.
"""

import gc
import pathlib
import sys
import threading
import time

import jax

from jaxlm.exchange import exporting, importing, stored


def resident() -> float:
    """MiB of memory of this process."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def peak_of(work) -> float:
    """By how much the process grew at most during `work`."""
    gc.collect()
    before, top, running = resident(), [0.0], [True]

    def watch():
        while running[0]:
            top[0] = max(top[0], resident())
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    running[0] = False
    thread.join()
    return top[0] - before


def main(mode: str, folder: pathlib.Path) -> None:
    """Measures once, after a first run on the same files has loaded what is loaded once."""
    found = stored.of_hf(folder / "hf")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    sizes = [4 * leaf.size / 2**20 for leaf in found.shapes.values()]
    if mode == "place":
        small = min(found.shapes, key=lambda path: found.shapes[path].size)
        jax.block_until_ready(found.place({small: here}))
        kept = []
        grown = peak_of(
            lambda: kept.append(jax.block_until_ready(found.place(dict.fromkeys(found.shapes, here))))
        )
    else:
        importing.from_hf(str(folder / "hf"), folder / "model", say=print)
        exporting.to_hf(folder / "model", folder / "first", say=print)
        gc.collect()
        grown = peak_of(lambda: exporting.to_hf(folder / "model", folder / "second", say=print))
    print(sum(sizes), max(sizes), grown)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
