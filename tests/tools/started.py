"""Starts a tool as the documentation says."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def started(*words: str, cache: pathlib.Path, code: int = 0) -> str:
    """What `python WORDS` writes, in the root of the repository; it must end with that code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAXLM_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
