"""jaxlm trains language models in JAX, from raw text to a checkpoint. Start reading at jaxlm/train.py.

From Python: `jaxlm.load_recipe`, `fit`, `load`, `batch_at`, `read_curves`, see jaxlm/api.py.
"""

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
