"""The real training step through the TPU compiler, for chips that are not here. In: a command line, a target.
Out: a `Step`.

It happens in a process of its own, since libtpu may crash, which is then one message. Nothing is run and no device is
asked: libtpu alone compiles.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.errors import EXIT_DONE, EXIT_USER, UserError
from jaxlm.planning.collectives import Collective
from jaxlm.planning.targets import Target, parse

# Less work for the scheduler and the fusions: 4 to 10 times as fast. docs/scale.md has what it changes.
_FAST = {"JAX_EXEC_TIME_OPTIMIZATION_EFFORT": "-1.0"}
# No metadata server, several processes at once, no logs of its own; the two names silence it.
LIBTPU = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
_NO_ROOM = re.compile(
    r"RESOURCE_EXHAUSTED.*?\(([\d.]+)([KMG]?)\) exceeds available HBM \(([\d.]+)([KMG]?)\)", re.S
)
# How jax calls the kernels of splash attention, and the first of what they get that has rows, heads, places and width.
_SPLASH = re.compile(r"splash_m[hq]a_(fwd|dq|dkv)")
_QUERIES = re.compile(r"\b(?:bf16|f32)\[(\d+),(\d+),(\d+),\d+\]")
_SHOWN = 3
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What the compiler says of a step. Bytes and FLOPs are those of one device."""

    fits: bool
    arguments: int = 0  # state and batch, as the device lays them out
    temporaries: int = 0
    host: int = 0  # in the memory of its host: state, and what the backward pass finds there
    peak: int = 0  # of the device, live at once; of what does not fit, what it would take
    capacity: int = 0  # 0: it fits, and how much there is was not said
    compile_s: float = 0.0
    attention: tuple[str, ...] = ()  # kernels
    collectives: tuple[Collective, ...] = ()
    hbm_bytes: int = 0  # read and written
    heaviest: tuple[tuple[str, int], ...] = ()  # instructions that do most of it
    cycles: int = 0  # estimated; 0: a fast compilation, where they are far off
    attention_cycles: int = 0  # of splash attention, which is not among these (models/splash_tiles.py)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


def available() -> bool:
    """Whether the TPU compiler is installed."""
    return importlib.util.find_spec("libtpu") is not None


def step(
    words: Sequence[str],
    target: Target,
    number: int,
    *,
    exact: bool,
    options: Mapping[str, bool | int | str] | None = None,
) -> Step:
    """Compiles the step of stage `number` of the run of a command line. UserError where that fails or crashes.

    `options` of the compiler are added to those of the run.
    """
    job = {"words": list(words), "target": target.name, "stage": number, "exact": exact}
    job["options"] = dict(options or {})
    environment = {**os.environ, **LIBTPU, **({} if exact else _FAST)}
    with tempfile.TemporaryDirectory(prefix="jaxlm-plan-") as folder:
        found = pathlib.Path(folder, "found.json")
        command = [sys.executable, "-m", "jaxlm.planning.compiled", json.dumps(job), str(found)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        made = json.loads(found.read_text()) if found.exists() else {}
    if done.returncode == EXIT_DONE:
        return _read(made)
    if "error" in made:
        raise UserError(made["error"])
    said = f":\n{done.stderr.strip()[-1500:]}" if done.returncode > 0 else "."  # of a crash only addresses
    raise UserError(f"the TPU compiler {_ended(done.returncode)}, compiling for {target.name}{said}")


def _read(made: dict[str, Any]) -> Step:
    lists: dict[str, Any] = {name: tuple(made[name]) for name in ("attention", "heaviest")}
    lists["heaviest"] = tuple((name, size) for name, size in lists["heaviest"])
    lists["collectives"] = tuple(
        Collective(**one | {"axes": tuple(one["axes"])}) for one in made["collectives"]
    )
    return Step(**{**made, **lists})


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    other = "another --config.model.remat or --config.accumulate may compile; --estimate needs no compiler"
    return f"crashed ({signal.Signals(-code).name}; {other})"


def main(argv: Sequence[str]) -> int:
    """The process: writes a `Step` as JSON."""
    job, place = json.loads(argv[1]), pathlib.Path(argv[2])
    try:
        found = _compiled(
            job["words"], parse(job["target"]), job["stage"], exact=job["exact"], options=job["options"]
        )
    except UserError as error:
        place.write_text(json.dumps({"error": str(error)}))
        return EXIT_USER
    place.write_text(json.dumps(dataclasses.asdict(found)))
    return EXIT_DONE


def _compiled(
    words: Sequence[str], target: Target, number: int, *, exact: bool, options: dict[str, Any]
) -> Step:
    import jax

    from jaxlm.config import flags
    from jaxlm.models import kernels, splash
    from jaxlm.planning import described
    from jaxlm.planning.hlo import Module
    from jaxlm.runtime import xla_flags

    run = flags.parse(["plan", *words]).run
    program = described.program(run, devices(target))
    batches = described.batches(program, described.stages(run)[number][0])
    start = time.perf_counter()
    with jax.set_mesh(program.mesh), kernels.recorded() as chosen, splash.recorded() as works:
        lowered = program.train_step().lower(program.state, program.frozen, batches)
        try:
            with xla_flags.known():
                made = lowered.compile(options or None)
        except jax.errors.JaxRuntimeError as error:
            return _no_room(error, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    module = Module.parse(made.as_text())
    facts = _facts(made, module, dict(program.mesh.shape), exact=exact)
    names = tuple(sorted({one.name for one in chosen}))
    cycles = _of_attention(module, works) / target.generation.counts  # cores of a chip
    return dataclasses.replace(facts, compile_s=seconds, attention=names, attention_cycles=round(cycles))


def devices(target: Target) -> Sequence[Any]:
    """Of a machine that is not here, as libtpu describes them."""
    from jax.experimental import topologies

    options: dict[str, Any] = dict(target.generation.options)
    if target.slices > 1:
        options["num_slices"] = target.slices
    if target.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    name = f"{target.generation.name}:{'x'.join(map(str, target.topology))}"
    return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices


def _no_room(error: Exception, seconds: float) -> Step:
    """What does not fit, as the compiler says it; any other error stays one."""
    found = _NO_ROOM.search(str(error))
    if not found:
        raise error
    needed, there = (round(float(found[i]) * _UNITS[found[i + 1]]) for i in (1, 3))
    return Step(fits=False, temporaries=needed, peak=needed, capacity=there, compile_s=seconds)


def _facts(made: Any, module: Any, mesh: dict[str, int], *, exact: bool) -> Step:
    from importlib import metadata

    from jaxlm.planning import collectives
    from jaxlm.runtime import device_memory

    analysis = made.memory_analysis()
    return Step(
        fits=True,
        arguments=analysis.argument_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        host=device_memory.of_host(made),
        peak=device_memory.estimate(made, "tpu") or 0,
        collectives=tuple(collectives.of(module, mesh)),
        hbm_bytes=module.hbm_bytes(),
        heaviest=tuple(module.heaviest(_SHOWN)),
        cycles=module.cycles() if exact else 0,
        versions={name: metadata.version(name) for name in ("jax", "libtpu")},
    )


def _of_attention(module: Any, works: Sequence[Any]) -> float:
    """Cycles of the calls of splash attention's kernels in a step; `works` are what was traced of it."""
    found = 0.0
    for one in module.executed():
        kernel = _SPLASH.match(one.what.name)
        queries = _QUERIES.search(one.what.rest) if kernel and one.what.opcode == "custom-call" else None
        if kernel and queries:
            rows, heads, length = map(int, queries.groups())
            of_head = next((work.cycles for work in works if work.queries == length), {})
            found += one.times * rows * heads * of_head.get(kernel[1], 0.0)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv))
