"""Importing is free: no module of these packages initialises an accelerator."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("checkpoint", "monitor", "runtime")
    for path in (ROOT / "jaxlm" / package).glob("*.py")
    if path.stem != "__init__"
)


def test_no_import_touches_a_device():
    program = "\n".join(f"import {name}" for name in [*MODULES, "jaxlm.doctor"])
    program += "\nfrom jax._src import xla_bridge\nassert not xla_bridge._backends, xla_bridge._backends"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("name", MODULES)
def test_only_the_store_imports_orbax(name):
    text = (ROOT / (name.replace(".", "/") + ".py")).read_text()
    assert ("from orbax" in text or "import orbax" in text) == (name == "jaxlm.checkpoint.storage")
