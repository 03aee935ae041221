"""Low-rank adaptation and what grew out of it. Everything is frozen, and beside chosen matrices two thin ones are
trained.

    view=(LoRA(rank=8, alpha=16.0, scaling="sqrt", targets=MATRICES, also=""),)
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxlm.errors import UserError
from jaxlm.models.beside import Scaled
from jaxlm.models.low_rank import LowRank
from jaxlm.models.values import whole
from jaxlm.views.beside import Beside
from jaxlm.views.view import Facts, Tree, parts


@dataclasses.dataclass(kw_only=True)
class LoRA(Beside):
    """base + scale * a b (Hu et al., 2106.09685; scaled by the root of the rank: Kalajdzievski, 2312.03732).

    Published: rank 4 to 64, alpha about twice the rank, scaling "rank" (2106.09685) or "sqrt" (2312.03732).
    """

    rank: int  # columns of the thin matrices; published: 4 to 64
    alpha: float  # what is added is scaled by alpha / rank, or alpha / sqrt(rank)
    scaling: Literal["rank", "sqrt"]  # what alpha is divided by: the rank, or its square root

    @property
    def scale(self) -> float:
        """What a b is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.scaling == "sqrt" else self.rank)

    @property
    def keeps_start(self) -> bool:
        """Whether what it trains stands beside weights that stay."""
        return not self.also

    def validate(self, where: str) -> None:
        """Numbers that can work, patterns that are some."""
        super().validate(where)
        for name in ("rank", "alpha"):
            if not 0 < getattr(self, name) < 2**16:
                raise UserError(f"{where}.{name}={getattr(self, name)}: must be above 0 (usual: 8 and 16.0).")

    def trained(self, one: Facts) -> dict[str, Facts]:
        """The thin matrices."""
        stack, inner, outer = parts(one, one.axes)
        return {
            "lora_a": Facts((*stack, *inner, "rank"), len(inner)),
            "lora_b": Facts((*stack, "rank", *outer), 1),
        }

    def start(self, one: Facts, weight: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """a uniform within 1/sqrt(inputs), as the published code draws it; b zero, so that nothing changes yet."""
        stack, inner, outer = parts(one, weight.shape)
        bound, shape = math.prod(inner) ** -0.5, (*stack, *inner, self.rank)
        return {
            "lora_a": jax.random.uniform(key, shape, jnp.float32, -bound, bound),
            "lora_b": jnp.zeros((*stack, self.rank, *outer), jnp.float32),
        }

    def value(self, path: str, base: Any, own: Mapping[str, jax.Array], others: Mapping[str, Any]) -> Tree:
        """The base with the two beside it."""
        return {path: LowRank(base, own["lora_a"], own["lora_b"], self.scale)}


@dataclasses.dataclass(kw_only=True)
class DoRA(LoRA):
    """m * (base + scale * a b) / its norm, for every output (Liu et al., 2402.09353).

    The norm is no variable to the gradient (their section 4.3). Not for tables of embeddings.
    """

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError also for a table."""
        super().check(facts, where)
        tables = [path for path, one in facts.items() if self._is_target(path, one) and "vocab" in one.axes]
        if tables:
            raise UserError(
                f"{where}.targets={self.targets!r} matches {tables[0]}, a table, and DoRA is for matrices of attention "
                "and MLP. Fix: a narrower pattern, or LoRA."
            )

    def trained(self, one: Facts) -> dict[str, Facts]:
        """LoRA's, and a magnitude for every output."""
        stack, _, outer = parts(one, one.axes)
        return super().trained(one) | {"magnitude": Facts((*stack, *outer), 0)}

    def start(self, one: Facts, weight: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """The magnitude is the norm of the base."""
        own = super().start(one, weight, key)
        stack, _, outer = parts(one, weight.shape)
        return own | {"magnitude": self._norm(weight, own).reshape(*stack, *outer)}

    def value(self, path: str, base: Any, own: Mapping[str, jax.Array], others: Mapping[str, Any]) -> Tree:
        """LoRA's, every output scaled."""
        norm = jax.lax.stop_gradient(self._norm(whole(base), own))
        gain = own["magnitude"].reshape(norm.shape) / norm
        return {path: Scaled(LowRank(base, own["lora_a"], own["lora_b"], self.scale), None, gain)}

    def _norm(self, base: jax.Array, own: Mapping[str, jax.Array]) -> jax.Array:
        """[stack, 1 ..., out ...]: of what stands above every output; the sum of the two is not formed."""
        a, b = own["lora_a"], own["lora_b"]
        first = a.ndim + b.ndim - 2 - base.ndim
        inputs = a.ndim - 1 - first
        w_XIO, a_XIR, b_XRO = (
            x.astype(jnp.float32).reshape(*x.shape[:first], math.prod(x.shape[first:split]), -1)
            for x, split in ((base, first + inputs), (a, first + inputs), (b, first + 1))
        )
        exact = jax.lax.Precision.HIGHEST
        mixed_XRO = jnp.matmul(a_XIR.mT, w_XIO, precision=exact)
        square_XRR = jnp.matmul(a_XIR.mT, a_XIR, precision=exact)
        added_XRO = 2 * mixed_XRO + self.scale * jnp.matmul(square_XRR, b_XRO, precision=exact)
        squares_XO = jnp.square(w_XIO).sum(-2) + self.scale * (b_XRO * added_XRO).sum(-2)
        shape = (*base.shape[:first], *(1,) * inputs, *base.shape[first + inputs :])
        return jnp.sqrt(jnp.maximum(squares_XO, jnp.finfo(jnp.float32).tiny)).reshape(shape)


def rslora(rank: int = 16, alpha: float = 16.0, also: str = r"heads/") -> LoRA:
    """What to take first: LoRA on every matrix, scaled by the root of the rank; heads are trained whole."""
    return LoRA(rank=rank, alpha=alpha, scaling="sqrt", also=also)
