"""A model beside its teacher, for objectives that compare the two. In: two bound models. Out: both as the first."""

import dataclasses
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Taught:
    """All calls are those of `module`."""

    module: Any
    teacher: Any  # bound, frozen, in its own dtype

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("module", "teacher"):
            raise AttributeError(name)
        return getattr(self.module, name)


def alone(model: Any) -> Any:
    """The model without its teacher."""
    return model.module if isinstance(model, Taught) else model
