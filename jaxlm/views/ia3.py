"""IA3: everything is frozen, and learnt vectors scale keys, values and the hidden units of the MLP.

view=(IA3(also="heads/.*"),)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.models.beside import Scaled
from jaxlm.views.beside import Beside
from jaxlm.views.view import Facts, Tree, bias_of, parts

# Keys and values, and what reads the hidden units of an MLP.
KEYS_VALUES_HIDDEN = r"(.*/)?((attention|cross_attention)/w[kv]|mlp/w_out)$"


@dataclasses.dataclass(kw_only=True)
class IA3(Beside):
    """Keys, values and hidden units times a vector each (Liu et al., 2205.05638, section 3.3).

    Of a matrix that reads hidden units the inputs are scaled, of any other the outputs, bias included.
    """

    # regular expression: the matrices whose path begins with a match; published: keys, values and the MLP's last
    targets: str = KEYS_VALUES_HIDDEN

    def trained(self, one: Facts) -> dict[str, Facts]:
        """A vector, in the rank of the matrix."""
        stack, inner, outer = parts(one, one.axes)
        if inner == ("mlp",):
            return {"ia3_in": Facts((*stack, *inner, *("unit" for _ in outer)), 0)}
        return {"ia3_out": Facts((*stack, *("unit" for _ in inner), *outer), 0)}

    def start(self, one: Facts, weight: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """Ones."""
        ((name, own),) = self.trained(one).items()
        sizes = (1 if axis == "unit" else n for axis, n in zip(own.axes, weight.shape, strict=True))
        return {name: jnp.ones(tuple(sizes), jnp.float32)}

    def value(self, path: str, base: Any, own: Mapping[str, jax.Array], others: Mapping[str, Any]) -> Tree:
        """The base scaled, and its bias."""
        if "ia3_in" in own:
            return {path: Scaled(base, own["ia3_in"], None)}
        found, bias = {path: Scaled(base, None, own["ia3_out"])}, bias_of(path)
        if bias in others:
            found[bias] = others[bias] * own["ia3_out"].reshape(others[bias].shape)
        return found
