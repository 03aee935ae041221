"""The second process compiles nothing, and says nothing."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]

PROGRAM = """
from jaxlm.data import places
from jaxlm.runtime import compilation
print(compilation.enable(places.default_cache()))
import jax, jax.numpy as jnp
from jax._src import monitoring
hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None)
f = jax.jit(jax.grad(lambda x, w: jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, w)[0].sum(), 1))
f(jnp.ones((3, 64)), jnp.ones((5, 64, 64))).block_until_ready()
print(len(hits))
"""


def run(cache: pathlib.Path, **environment: str) -> tuple[list[str], str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAXLM_CACHE": str(cache), **environment}
    env.pop("XLA_FLAGS", None)  # those of tests make programs that are compiled too fast to be kept
    env.pop("JAX_COMPILATION_CACHE_DIR", None) if "JAX_COMPILATION_CACHE_DIR" not in environment else None
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_the_second_process_reads_small_programs_from_disk_without_noise(tmp_path):
    first, _ = run(tmp_path)
    second, noise = run(tmp_path)
    assert first[0].startswith(str(tmp_path / "compilation")) and first[0] == second[0]
    assert (int(first[1]), int(second[1]) > 0) == (0, True)
    assert noise == ""


def test_a_cache_that_cannot_be_made_costs_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    lines, _ = run(tmp_path / "file")
    assert lines[0].startswith("WARNING: no compilation cache") and lines[1] == "None"


def test_an_explicit_folder_of_jax_is_respected(tmp_path):
    lines, _ = run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert lines[0] == str(tmp_path / "own")
