"""Bottleneck adapters: everything is frozen, and behind the outputs of layers a small MLP each is trained.

view=(houlsby(width=64),)      view=(pfeiffer(width=48),)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.errors import UserError
from jaxlm.models.beside import Bottleneck
from jaxlm.models.mlp import Activation
from jaxlm.views.beside import Beside
from jaxlm.views.view import Facts, Tree, bias_of, parts

MLP_OUTPUTS = r"(.*/)?mlp/w_out$"
OUTPUTS = r"(.*/)?((attention|cross_attention)/wo|mlp/w_out)$"
NORMS = r"(.*/)?norm\w*/"


@dataclasses.dataclass(kw_only=True)
class Adapter(Beside):
    """h + act(h down) up of a layer's output h, before dropout, addition and norm (Houlsby et al., 1902.00751).

    `up` starts at zero, so that nothing changes yet; published: both with a deviation of 0.01. `targets` are matrices
    whose outputs have the width of the model.
    """

    width: int  # of the bottleneck; published: 8 to 256
    activation: Activation = "gelu"  # within the bottleneck; gelu (erf), gelu_tanh, relu, silu
    targets: str = OUTPUTS  # regular expression: the matrices whose path begins with a match

    def validate(self, where: str) -> None:
        """A width that can work, patterns that are some."""
        super().validate(where)
        if not 0 < self.width < 2**16:
            raise UserError(f"{where}.width={self.width}: must be above 0 (usual: 16 to 64).")

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError also for a matrix that is no output of a layer."""
        super().check(facts, where)
        for path, one in facts.items():
            of_layer = parts(one, one.axes)[2] == ("embed",) and "experts" not in one.axes
            if self._is_target(path, one) and not of_layer:
                raise UserError(
                    f"{where}.targets={self.targets!r} matches {path}, which is not the output of a layer. Fix: "
                    f"{OUTPUTS!r} for attention and MLP, {MLP_OUTPUTS!r} for the MLP alone."
                )

    def trained(self, one: Facts) -> dict[str, Facts]:
        """Two matrices and their biases."""
        stack, _, outer = parts(one, one.axes)
        return {
            "down": Facts((*stack, *outer, "rank"), 1),
            "b_down": Facts((*stack, "rank"), 0),
            "up": Facts((*stack, "rank", *outer), 1),
            "b_up": Facts((*stack, *outer), 0),
        }

    def start(self, one: Facts, weight: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """down normal with a deviation of 0.01, the rest zero."""
        stack, _, (width,) = parts(one, weight.shape)
        return {
            "down": 0.01 * jax.random.normal(key, (*stack, width, self.width), jnp.float32),
            "b_down": jnp.zeros((*stack, self.width), jnp.float32),
            "up": jnp.zeros((*stack, self.width, width), jnp.float32),
            "b_up": jnp.zeros((*stack, width), jnp.float32),
        }

    def value(self, path: str, base: Any, own: Mapping[str, jax.Array], others: Mapping[str, Any]) -> Tree:
        """The base with the bottleneck behind it."""
        return {path: Bottleneck(base, others.get(bias_of(path)), **own, activation=self.activation)}


def houlsby(width: int = 64, also: str = r"heads/") -> Adapter:
    """Behind attention and MLP; norms are trained too, as published, and a head (Houlsby et al., 1902.00751)."""
    return Adapter(width=width, targets=OUTPUTS, also="|".join(filter(None, (NORMS, also))))


def pfeiffer(width: int = 48, also: str = r"heads/") -> Adapter:
    """Behind the MLP alone (Pfeiffer et al., 2005.00247); published: a sixteenth of the model's width."""
    return Adapter(width=width, activation="relu", targets=MLP_OUTPUTS, also=also)
