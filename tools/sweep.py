"""Options of the compiler, compared on one training step: `python tools/benchmark.py RECIPE --sweep_flags`.

In: a recipe, and words as `jaxlm train` takes them. Out: lines of a Markdown table; the first is the project's own
options (`jaxlm/runtime/xla_flags.py`), every other one adds a candidate to them, or takes one of them away.

On the devices at hand every program runs the same batches from the same weights, in turns. With `--target=v5e-8` it is
compiled for a machine that is not here, with full effort, and what the compiler says of it is compared: cycles (its
estimate, without kernels and network), temporaries, the peak, bytes of HBM and of the network.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.config import flags
from jaxlm.errors import UserError
from jaxlm.partition import mesh as meshes
from jaxlm.planning import compiled
from jaxlm.planning.targets import parse
from jaxlm.run import inputs
from jaxlm.run.program import Program, shardings
from jaxlm.runtime import xla_flags

Value = bool | int | str
GIB = 2**30
BATCHES = 4  # that all programs share
FIRST = 3  # steps whose losses are compared


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Options that are tried together."""

    options: Mapping[str, Value]
    why: str  # what they do, and who advises them


def _one(name: str, value: Value, why: str) -> Candidate:
    return Candidate({name: value}, why)


# By platform. TPU: MaxText's benchmarks/xla_flags_library.py and README; GPU: NVIDIA's JAX-Toolbox and XLA's GPU
# flag guidance; CPU: xla/debug_options_flags.cc (all of 2026-11).
CANDIDATES: dict[str, tuple[Candidate, ...]] = {
    "cpu": (
        _one("xla_cpu_prefer_vector_width", 512, "whole AVX-512 registers instead of halves"),
        _one("xla_cpu_prefer_vector_width", 128, "short registers, no lower clock"),
        _one("xla_cpu_enable_fast_min_max", True, "min and max need not pass on NaN"),
        _one("xla_cpu_multi_thread_eigen", False, "a product on one thread"),
        _one("xla_cpu_use_fusion_emitters", False, "the older code for fusions"),
        _one("xla_cpu_use_onednn", True, "products by oneDNN, where it is built in"),
        _one("xla_cpu_use_xnnpack", True, "products by XNNPACK"),
        _one("xla_cpu_enable_concurrency_optimized_scheduler", False, "the order that saves memory"),
        _one("xla_cpu_copy_insertion_use_region_analysis", True, "fewer copies around loops"),
        _one("xla_llvm_disable_expensive_passes", True, "compiles sooner, may run slower"),
    ),
    "gpu": (
        _one("xla_gpu_enable_latency_hiding_scheduler", True, "communication beside computation"),
        Candidate(
            {
                f"xla_gpu_{kind}_combine_threshold_bytes": 2**30
                for kind in ("all_reduce", "all_gather", "reduce_scatter")
            },
            "few large collectives instead of many",
        ),
        Candidate(
            {f"xla_gpu_enable_pipelined_{kind}": True for kind in ("all_reduce", "all_gather", "reduce_scatter")},
            "collectives of a loop's next round beside this one",
        ),
        _one("xla_gpu_enable_while_loop_double_buffering", True, "two rounds of a loop at once, without copies"),
        _one("xla_gpu_enable_triton_gemm", False, "products by cuBLAS alone"),
        _one("xla_gpu_triton_gemm_any", True, "Triton tried for every product"),
        _one("xla_gpu_exhaustive_tiling_search", True, "every tiling of Triton is timed"),
        _one("xla_gpu_cudnn_gemm_fusion_level", 2, "fusions of products by cuDNN are timed, too"),
        _one("xla_gpu_enable_command_buffer", "", "no CUDA graphs"),
        _one("xla_gpu_multi_streamed_windowed_einsum", True, "products in windows on several streams"),
    ),
    "tpu": (
        Candidate(
            {
                "xla_enable_async_all_reduce": True,
                "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": True,
            },
            "sums of gradients beside products that do not need them",
        ),
        Candidate(
            {
                "xla_tpu_enable_async_collective_fusion": True,
                "xla_tpu_enable_async_collective_fusion_fuse_all_gather": True,
                "xla_tpu_enable_async_collective_fusion_multiple_steps": True,
            },
            "gathers inside of products, over several of them",
        ),
        _one("xla_tpu_overlap_compute_collective_tc", True, "the core computes while it communicates"),
        _one("xla_enable_async_all_gather", True, "gathers that start before they are needed"),
        _one("xla_tpu_scoped_vmem_limit_kib", 32768, "twice the scratch memory for a fusion or kernel"),
        _one("xla_tpu_scoped_vmem_limit_kib", 98304, "MaxText's for v6e"),
        Candidate(
            {
                "xla_tpu_enable_data_parallel_all_reduce_opt": True,
                "xla_tpu_data_parallel_opt_different_sized_ops": True,
            },
            "sums over data-parallel chips in a pipeline, of unequal sizes as well",
        ),
        _one("xla_tpu_enable_latency_hiding_scheduler", True, "XLA's scheduler that hides waits"),
        _one("xla_latency_hiding_scheduler_rerun", 2, "that scheduler again, if memory did not last"),
        _one("xla_tpu_enable_all_experimental_scheduler_features", True, "MaxText's with offloading"),
        _one("xla_tpu_rwb_fusion", False, "reductions are not fused with what they write"),
        _one("xla_jf_spmd_threshold_for_windowed_einsum_mib", 1_000_000, "no products in windows of gathers"),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Way:
    """One program."""

    name: str
    options: dict[str, Value]


@dataclasses.dataclass
class Measured:
    """What a program did here."""

    losses: list[float]
    seconds: list[float] = dataclasses.field(default_factory=list)  # per step, of every round


def ways(platform: str, ours: Mapping[str, Value], only: str = "") -> list[Way]:
    """Ours first; none at all; every candidate turned over, or those whose names contain `only`."""
    found = [Way("as jaxlm compiles", dict(ours))]
    if ours:
        found.append(Way("no options", {}))
    for one in CANDIDATES.get(platform, ()):
        named = ", ".join(f"{name}={str(value).lower()}" for name, value in one.options.items())
        if all(ours.get(name) == value for name, value in one.options.items()):
            left = {name: value for name, value in ours.items() if name not in one.options}
            found += [Way(f"without {named}", left)] if left else []  # all of ours: that is the line above
        else:
            found.append(Way(f"with {named}", {**ours, **one.options}))
    return [way for way in found if "=" not in way.name or only in way.name]


def here(words: Sequence[str], *, only: str, rounds: int, block: int) -> Iterator[str]:
    """The table of the devices at hand: ratios to the first line in the same round, median and spread."""
    run = flags.parse(["benchmark", *words, "--config.compiler_options=none"]).run
    mesh = meshes.make(run.mesh, jax.devices())
    device = mesh.devices.flat[0]
    chosen = ways(device.platform, xla_flags.options(device.device_kind, mesh.size), only)
    with jax.set_mesh(mesh):
        found = _raced(Program.of(run, mesh), chosen, rounds, block)
    yield f"| {mesh.size} x {device.device_kind} | step is | of {rounds} rounds | first {FIRST} losses |"
    yield "|---|---|---|---|"
    base = found[chosen[0].name]
    assert isinstance(base, Measured)  # what jaxlm compiles is not refused
    for name, one in found.items():
        if isinstance(one, str):
            yield f"| {name} | refused | {one} | |"
            continue
        ratios = [mine / theirs for mine, theirs in zip(one.seconds, base.seconds, strict=True)]
        step = f"{statistics.median(one.seconds):.4g} s, {statistics.median(ratios):.3f}×"
        yield f"| {name} | {step} | {min(ratios):.3f} to {max(ratios):.3f} | {_compared(one, base)} |"


def _compared(one: Measured, base: Measured) -> str:
    apart = max(abs(a - b) / abs(b) for a, b in zip(one.losses, base.losses, strict=True))
    if one is base:
        return " ".join(f"{loss:.5f}" for loss in base.losses)
    return "the same" if not apart else f"off by {apart:.1e}"


def _raced(program: Program, chosen: list[Way], rounds: int, block: int) -> dict[str, Measured | str]:
    """By name what each measured, or why it was refused; the state of one block is where the next one starts."""
    batches, steps = _batches(program), {}
    state, frozen = program.start(program.parameters())
    start, where = jax.device_get(state), shardings(program.state)
    lowered = program.train_step().lower(state, frozen, batches[0])
    found: dict[str, Measured | str] = {}
    for way in chosen:
        print(f"  compiling {way.name}", flush=True)
        try:
            steps[way.name] = lowered.compile(way.options or None)
        except jax.errors.JaxRuntimeError as error:
            found[way.name] = str(error).splitlines()[0]
            continue
        state, losses = jax.device_put(start, where), []
        for number in range(FIRST):
            state, measures = steps[way.name](state, frozen, batches[number])
            losses.append(float(jax.device_get(measures["loss"])[0]))
        found[way.name] = Measured(losses)
    turn = itertools.cycle(batches)
    for _, (name, step) in itertools.product(range(rounds), steps.items()):
        begin = time.perf_counter()
        for _ in range(block):
            state, measures = step(state, frozen, next(turn))
            jax.block_until_ready(measures)
        found[name].seconds.append((time.perf_counter() - begin) / block)  # type: ignore[union-attr]
    return found


def _batches(program: Program) -> list[Any]:
    """The first of the run, of one shape."""
    run, made = program.run, []
    text = inputs.text(run, lambda line: None)
    feed = inputs.train_feed(text, inputs.rows(run, text, run.stages[0], "train"), program.mesh, start=0)
    shape = lambda batch: jax.tree.map(np.shape, batch)
    for batch in feed:
        if not made or shape(batch) == shape(made[0]):
            made.append(batch)
        if len(made) == BATCHES:
            break
    return made


def there(words: Sequence[str], target: str, *, only: str) -> Iterator[str]:
    """The table of a machine that is not here: what the compiler says, in parts of the first line's."""
    machine = parse(target)
    kind = machine.generation
    chosen = ways(kind.platform, xla_flags.options(kind.device_kind, machine.size, {}), only)
    yield f"| {machine.name} | G cycles | temporaries, GiB | peak, GiB | HBM, GiB | network, GiB |"
    yield "|---|---|---|---|---|---|"
    base: tuple[float, ...] = ()
    for way in chosen:
        print(f"  compiling {way.name}", flush=True)
        try:
            step = compiled.step(
                [*words, "--config.compiler_options=none"], machine, 0, exact=True, options=way.options
            )
        except UserError as error:
            yield f"| {way.name} | refused: {str(error).splitlines()[0]} | | | | |"
            continue
        sent = sum(one.wire_bytes for one in step.collectives)
        bytes_ = (step.temporaries, step.peak, step.hbm_bytes, sent)
        values = (step.cycles / 1e9, *(size / GIB for size in bytes_))
        base = base or values
        cells = [f"{v:.4g} ({v / b:.3f})" if b else f"{v:.4g}" for v, b in zip(values, base, strict=True)]
        yield f"| {way.name} | {' | '.join(cells)} |"


def table(words: Sequence[str], target: str, *, only: str, rounds: int, block: int) -> Iterator[str]:
    """Of the recipe and changes to it that the words name."""
    return there(words, target, only=only) if target else here(words, only=only, rounds=rounds, block=block)
