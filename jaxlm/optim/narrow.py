"""First moments in fewer bits. In: an optimizer. Out: the same, which keeps less between updates.

optimizer = NarrowMoments(of=AdamW(...), dtype="bfloat16")
"""

import dataclasses
from typing import Any, Literal

import jax

from jaxlm.errors import UserError
from jaxlm.optim.around import Around, Link
from jaxlm.optim.horizon import Horizon


@dataclasses.dataclass(kw_only=True)
class NarrowMoments(Around):
    """First moments are kept in fewer bits: rounded to the nearest after each update, which uses them unrounded.

    Second moments stay float32: where they hold still, an update with b2 = 0.999 changes one by less than a thousandth
    of what it is compared with, and bfloat16 rounds to 1 in 256, so that it would stay where it is.
    """

    dtype: Literal["bfloat16"]  # of first moments between updates: 2 bytes a parameter, not 4

    def make(self, horizon: Horizon, axes: Any, where: str = "config.optimizer") -> Link:
        """UserError, when its state is made, for an optimizer without first moments."""
        inner = self.of.make(horizon, axes, f"{where}.of")

        def init(params: Any) -> Any:
            state = inner.init(params)
            if not any(_is_first_moment(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)):
                raise UserError(
                    f"{where}.of: {type(self.of).__name__} has no first moments to keep in {self.dtype}. Fix: "
                    f"--{where}=AdamW(...), or another optimizer with b1."
                )
            return _first_moments(state, self.dtype)

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            updates, state = inner.update(updates, _first_moments(state, "float32"), params)
            return updates, _first_moments(state, self.dtype)

        return Link(init, update)


def _first_moments(state: Any, dtype: str) -> Any:
    """The state with its first moments in this dtype."""
    cast = lambda path, x: x.astype(dtype) if _is_first_moment(path) else x
    return jax.tree_util.tree_map_with_path(cast, state)


def _is_first_moment(path: tuple) -> bool:
    """Of an array of the state: optax's optimizers and ours call it `mu`."""
    return any(isinstance(key, jax.tree_util.GetAttrKey) and key.name == "mu" for key in path)
