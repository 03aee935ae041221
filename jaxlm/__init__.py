"""jaxlm trains language models in JAX, from raw text to a checkpoint. Start reading at jaxlm/train.py.

From Python: `jaxlm.load_recipe`, `fit`, `load`, `batch_at`, `read_curves`, see jaxlm/api.py.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.stderr.write(f"jaxlm needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.\n")
    sys.exit(78)

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxlm.api import (
        Model,
        Outcome,
        Run,
        UserError,
        batch_at,
        fit,
        load,
        load_recipe,
        read_curves,
    )

__all__ = ["Model", "Outcome", "Run", "UserError", "batch_at", "fit", "load", "load_recipe", "read_curves"]


def __getattr__(name: str):  # when first asked for: a worker that tokenises does without JAX
    if name in __all__:
        return getattr(importlib.import_module("jaxlm.api"), name)
    raise AttributeError(f"module 'jaxlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
