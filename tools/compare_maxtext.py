"""The training step of MaxText and ours, compiled for TPUs that are not here, counted the same way.

    python tools/compare_maxtext.py --python=MAXTEXT/bin/python 7b        # both of one size; 3 minutes a line, no TPU

`--python` has maxtext[tpu]; install the same jax, jaxlib and libtpu there and here. Lines of a table: cycles are the
compiler's own estimates with loops multiplied (kernels and collectives have none), wire is what a chip sends at least.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from jaxlm.errors import UserError
from jaxlm.planning import collectives, compiled
from jaxlm.planning.hlo import Module
from jaxlm.planning.targets import parse

GIB = 2**30
# In their process: what they compile, as text.
PEER = """
import sys, maxtext
from maxtext.trainers.pre_train import train_compile as theirs
made = theirs.jit_and_compile
def kept(*arguments, **named):
    program = made(*arguments, **named)
    open(sys.argv[1], "w").write(program.as_text() + f"\\nTEMPORARIES {program.memory_analysis().temp_size_in_bytes}")
    return program
theirs.jit_and_compile = kept
theirs.app.run(theirs.main, argv=["train_compile", maxtext.__path__[0] + "/configs/base.yml", *sys.argv[2:]])
"""
BLOCK = (
    "decoder_block=llama2", "mlp_activations=['silu','linear']", "enable_dropout=False",
    "normalization_layer_epsilon=1e-5",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """The same model, rows and mesh on both sides."""

    target: str
    fsdp: int
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


SIZES = {
    "7b": Size(
        target="v5e-256", fsdp=256,
        ours=("llama_7b", "--config.batch_size=512", "--config.stages=(Stage(length=2048,share=1.0),)"),
        theirs=("model_name=llama2-7b", "per_device_batch_size=2", "max_target_length=2048"),
    ),
    "1b": Size(
        target="v6e-8", fsdp=8,
        ours=("llama3_2_1b", "--config.batch_size=32", "--config.stages=(Stage(length=4096,share=1.0),)"),
        theirs=(
            "model_name=default", "base_emb_dim=2048", "base_num_query_heads=32", "base_num_kv_heads=8",
            "base_mlp_dim=8192", "base_num_decoder_layers=16", "head_dim=64", "vocab_size=128256",
            "logits_via_embedding=True", "rope_max_timescale=500000", "per_device_batch_size=4",
            "max_target_length=4096", *BLOCK,
        ),
    ),
}  # fmt: skip
# What each keeps for the backward pass, from least to most.
KEPT = {"maxtext": ("full", "minimal_with_context"), "jaxlm": ("block", "dots")}


def main(argv: list[str]) -> int:
    """Lines of a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", choices=[*SIZES, []], help="default: all")
    parser.add_argument("--python", required=True, help="of an environment that has maxtext[tpu]")
    options = parser.parse_args(argv[1:])
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu"))
    print(
        f"| size ({versions}) | side | kept | G cycles | wire GiB | temporaries GiB |\n|---|---|---|---|---|---|"
    )
    for name in options.sizes or SIZES:
        for side, ways in KEPT.items():
            for kept in ways:
                size = SIZES[name]
                found = theirs(options.python, size, kept) if side == "maxtext" else ours(size, kept)
                cycles, wire, temporaries = found
                told = f"{cycles / 1e9:.3f} | {wire / GIB:.1f} | {temporaries / GIB:.1f}"
                print(f"| {name} on {size.target} | {side} | {kept} | {told} |", flush=True)
    return 0


def ours(size: Size, kept: str) -> tuple[float, float, float]:
    """(cycles, bytes that a chip sends, bytes of temporaries)."""
    words = (
        *size.ours, f"--config.model.remat={kept}", "--config.objective.chunk=1024",
        "--config.mesh.data=1", f"--config.mesh.fsdp={size.fsdp}",
    )  # fmt: skip
    step = compiled.step(words, parse(size.target), 0, exact=True)
    return step.cycles, sum(one.wire_bytes for one in step.collectives), step.temporaries


def theirs(python: str, size: Size, kept: str) -> tuple[float, float, float]:
    """The same of MaxText. UserError where it does not compile."""
    with tempfile.TemporaryDirectory(prefix="jaxlm-maxtext-") as folder:
        out = pathlib.Path(folder, "program.txt")
        words = (
            f"compile_topology={size.target}", "compile_topology_num_slices=1", "attention=flash",
            "dataset_type=synthetic", "run_name=compared", f"base_output_directory={folder}",
            f"ici_fsdp_parallelism={size.fsdp}", f"remat_policy={kept}", *size.theirs,
        )  # fmt: skip
        environment = {**os.environ, **compiled.LIBTPU}
        done = subprocess.run(
            [python, "-c", PEER, str(out), *words],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if not out.exists():
            raise UserError(f"{python} did not compile MaxText's step:\n{done.stderr.strip()[-800:]}")
        return counted(out.read_text(), size.fsdp)


def counted(text: str, fsdp: int) -> tuple[float, float, float]:
    """The same of a compiled program, behind which its temporaries stand."""
    program, _, temporaries = text.rpartition("\nTEMPORARIES ")
    module = Module.parse(program)
    sent = sum(one.wire_bytes for one in collectives.of(module, {"fsdp": fsdp}))
    return module.cycles(), sent, float(temporaries)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
