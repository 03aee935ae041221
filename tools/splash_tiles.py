"""What tiles of the TPU's attention kernel cost, as compiled for chips that are not here: COSTS of its tiles' choice.

    python tools/splash_tiles.py                        # the table of jaxlm/models/splash_tiles.py; minutes, no TPU
    python tools/splash_tiles.py --only=v5e --width=64  # of one generation and another head width

libtpu writes down how it schedules a kernel: bundles of instructions, one a cycle. Those of a step of the grid, of a
tile and of a line of tiles lie in regions of their own, jumped over where nothing is to do, and are counted apart; what
depends on a tile's size is a least-squares fit. A tile takes at least the time in which its rows pass the matrix units,
which a schedule leaves to the hardware's queues. Not known: waiting for memory, and what the hardware does otherwise.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from jaxlm.errors import UserError
from jaxlm.models.splash_tiles import COSTS, UNIT, Cost, Seen, at_once, by_kernel, cycles, sizes
from jaxlm.planning import compiled
from jaxlm.planning.targets import Target, parse

TILES = (256, 512, 1024)
LENGTH, HEADS, ROWS = 2048, 4, 2
# Rows that a matrix unit takes in a cycle, so that peak = 2 x clock x cores x units x their size squared x this.
TARGETS = {"v5e-1": 1, "v5p-8": 1, "v6e-1": 2}
KERNELS = {"fwd": "forward", "dq": "dq", "dkv": "dkv"}
_BUNDLE = re.compile(r"^\s*(0x[0-9a-f]+|0)\s+(?:[LPC][HBEFT]\s*)?:((?: >)*) (\{.*)", re.M)
_JUMP = re.compile(r"sbr\.rel \(.*?\) target = \$region(\d+)")
_START = re.compile(r"(?:Start|Start/End empty) region (\d+)")
_PRODUCT = re.compile(r"vmatmul\.\S*?(bf16|f32)\S*?\.mxu(\d)")
_STORE = re.compile(r" vst\S* \[")
_STORES = 8  # of vectors: more than what moves a window


@dataclasses.dataclass(frozen=True)
class Counted:
    """Cycles of a kernel's regions."""

    step: int
    tile: int
    line: int


def counted(text: str, rows_a_cycle: int) -> Counted:
    """Of libtpu's final bundles. ValueError where there is no loop over a grid."""
    parts = {"step": 0, "tile": 0, "line": 0}
    for code in _regions(text):
        kind = "step"
        if "vmatmul" in "".join(code):
            kind = "tile"
        elif sum(bool(_STORE.search(bundle)) for bundle in code) > _STORES:
            kind = "line"
        parts[kind] += max(len(code), _passing("".join(code)) // rows_a_cycle)
    return Counted(**parts)


def _regions(text: str) -> Iterator[list[str]]:
    """The bundles of the loop, by the innermost jump over them."""
    found, starts = [], {}
    for place, line in enumerate(re.split(r"\n(?=\s*(?:0x[0-9a-f]+|0)\s)", text)):
        bundle = _BUNDLE.match(line)
        if bundle and bundle[2]:
            found.append((place, line))
            starts |= {
                int(number): place for number in reversed(_START.findall(line)) if int(number) not in starts
            }
    if not found:
        raise ValueError("no loop in these bundles")
    jumps = [(place, starts.get(int(to), 0)) for place, line in found for to in _JUMP.findall(line)]
    jumps = sorted(((a, b) for a, b in jumps if b > a), key=lambda jump: jump[1] - jump[0])
    regions: dict[Any, list[str]] = {}
    for place, line in found:
        over = next((jump for jump in jumps if jump[0] < place < jump[1]), None)
        regions.setdefault(over, []).append(line)
    yield from regions.values()


def _passing(code: str) -> int:
    """Rows through the unit that has most; an instruction has a register of them: 16, or 8 of float32."""
    rows: dict[str, int] = {}
    for dtype, unit in _PRODUCT.findall(code):
        rows[unit] = rows.get(unit, 0) + (16 if dtype == "bf16" else 8)
    return max(rows.values(), default=0)


def fitted(kernel: str, found: dict[tuple[int, int], Counted], target: Target) -> Cost:
    """The cost of a kernel, of what its tiles were counted to be."""
    at = np.array([(q, kv) for q, kv in found]) / UNIT
    of = lambda name: np.array([getattr(one, name) for one in found.values()], float)
    tile, ones = of("tile"), np.ones(len(found))
    fill, square = np.linalg.lstsq(np.stack([ones, at.prod(axis=1)], 1) / tile[:, None], ones)[0]
    q, kv = np.linalg.lstsq(at, of("line"))[0]
    part = 0.0
    if kernel == "fused":
        assert target.chip.bandwidth and target.chip.clock
        cycle = target.chip.bandwidth / target.chip.clock / target.generation.counts  # bytes of a core
        part = q + UNIT * UNIT * 2 / cycle  # summed afterwards
    line = kv if kernel in ("fused", "dkv") else q
    return Cost(*(round(float(x), 1) for x in (np.median(of("step")), fill, square, line, part)))


def measured(name: str, width: int, after: int | None) -> dict[str, Cost]:
    """By kernel; in a process of its own, since libtpu reads its arguments once."""
    with tempfile.TemporaryDirectory(prefix="jaxlm-tiles-") as folder:
        said = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        said += " --xla_jf_dump_llo_pass_label_regex=.*final_bundles.*"
        environment = {**os.environ, **compiled.LIBTPU, "LIBTPU_INIT_ARGS": said}
        command = [sys.executable, __file__, f"--job={json.dumps([name, width, after, folder])}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{name}: the kernels did not compile:\n{done.stderr.strip()[-800:]}")
    found: dict[str, dict[tuple[int, int], Counted]] = {}
    for kernel, q, kv, *parts in json.loads(done.stdout.splitlines()[-1]):
        found.setdefault(kernel, {})[q, kv] = Counted(*parts)
    return {kernel: fitted(kernel, found[kernel], parse(name)) for kernel in (*KERNELS.values(), "fused")}


def job(name: str, width: int, after: int | None, folder: str) -> Iterator[tuple[Any, ...]]:
    """(kernel, queries, keys, cycles of a step, a tile and a line) of every tile; libtpu writes to the folder."""
    for q, kv, fused in itertools.product(TILES, TILES, (False, True)):
        compile_one(name, width, after, q, kv, fused=fused)
        for path in pathlib.Path(folder).iterdir():
            kernel = re.search(r"splash_mha_(fwd|dq|dkv)\w*\.\d+-\d+-final_bundles.txt", path.name)
            if kernel:
                one = "fused" if fused and kernel[1] == "dkv" else KERNELS[kernel[1]]
                parts = dataclasses.astuple(counted(path.read_text(), TARGETS[name]))
                yield (one, q, kv, *parts)
            path.unlink()


def compile_one(name: str, width: int, after: int | None, q: int, kv: int, *, fused: bool) -> None:
    """Forward and backward, as jaxlm makes them, for the first chip of a machine."""
    import jax
    import jax.numpy as jnp
    from jax.experimental.pallas.ops.tpu import splash_attention as pallas

    from jaxlm.models import splash

    mesh = jax.sharding.Mesh(np.array(compiled.devices(parse(name)))[:1], ("data",))
    here = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    backward = dict(
        zip(("block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute"), (q, kv, at_once(kv)), strict=True)
    )
    backward |= {} if fused else {"block_q_dq": q, "block_kv_dq": kv}
    blocks = pallas.BlockSizes(q, kv, at_once(kv), use_fused_bwd_kernel=fused, **backward)
    kernel, _ = splash.make(HEADS, Seen(np.arange(LENGTH), LENGTH, None, after), blocks)

    def both(x: Any, segments: Any) -> Any:
        run = lambda q, k, v: jax.vmap(kernel)(q, k, v, pallas.SegmentIds(segments, segments))
        out, back = jax.vjp(run, x, x, x)
        return back(out)

    x = jax.ShapeDtypeStruct((ROWS, HEADS, LENGTH, width), jnp.bfloat16, sharding=here)
    segments = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32, sharding=here)
    jax.jit(both).lower(x, segments).compile()


def choices(lengths: tuple[int, ...]) -> Iterator[str]:
    """What the costs choose, and its cycles beside those of tiles of 512 with three kernels."""
    yield "| kind | length | sees | forward | backward | M cycles a head | of 512s |\n|---|---|---|---|---|---|---|"
    for kind, costs in COSTS.items():
        for length in lengths:
            for after, name in ((0, "causal"), (None, "all")):
                seen = Seen(np.arange(length), length, None, after)
                best = sizes(seen, length, UNIT, 2, kind)
                total = sum(by_kernel(seen, best, UNIT, kind).values())
                one = best.use_fused_bwd_kernel
                told = f"{'fused' if one else 'dkv'} {best.block_q_dkv} x {best.block_kv_dkv}"
                told += "" if one else f", dq {best.block_q_dq} x {best.block_kv_dq}"
                before = next(tile for tile in (512, 384, 256, 128) if length % tile == 0)
                old = sum(cycles(one, costs[one], seen, before, before) for one in KERNELS.values())
                yield (
                    f"| {kind} | {length:,} | {name} | {best.block_q} x {best.block_kv} | {told} | {total / 1e6:.3f} "
                    f"| {total / old:.2f} |"
                )


def main(argv: list[str]) -> int:
    """The lines of COSTS, then a Markdown table of what they choose."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a generation: v5e, v5p, v6e; default: all")
    parser.add_argument("--width", type=int, default=UNIT, help="of a head")
    parser.add_argument("--sees", choices=["causal", "all"], default="causal")
    parser.add_argument("--choices", action="store_true", help="no compiler: what the table as it is chooses")
    parser.add_argument("--job", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(argv[1:])
    if options.job:
        print(json.dumps(list(job(*json.loads(options.job)))))
        return 0
    for name in TARGETS if not options.choices else ():
        if name.startswith(options.only):
            after = 0 if options.sees == "causal" else None
            print(f'    "{parse(name).generation.device_kind}": {{')
            for kernel, cost in measured(name, options.width, after).items():
                print(f'        "{kernel}": Cost{dataclasses.astuple(cost)},')
            print("    },", flush=True)
    print("\n".join(choices((512, 1024, 2048, 4096, 8192, 32768))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
