"""AdaLoRA: a budget of ranks, shared out among all matrices while training goes on.

view=(AdaLoRA(rank=12, target_rank=8, alpha=16.0, begin="10%", end="30%"),)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxlm.errors import UserError
from jaxlm.models.low_rank import LowRank
from jaxlm.views import budget
from jaxlm.views.lora import LoRA
from jaxlm.views.view import Facts, Tree, parts


@dataclasses.dataclass(kw_only=True)
class AdaLoRA(LoRA):
    """base + alpha / rank * a diag(e) b (Zhang et al., 2303.10512): a and b are kept near orthogonal, and entries of e
    that matter least in all matrices together are set to zero. `rank` is that of the beginning: 1.5 x `target_rank`."""

    scaling: Literal["rank", "sqrt"] = "rank"  # what alpha is divided by; published: the rank
    target_rank: int  # mean rank of a matrix in the end
    warmup: float = 0.1  # share of the run's steps before the first cut
    settled: float = 0.3  # share of the run's steps at its end in which ranks stay as they are
    every: int = 10  # steps from cut to cut; published: 1 to 100
    decay: float = 0.85  # of the averages of importance and of its uncertainty; published: 0.85
    orthogonality: float = 0.5  # weight of the mean of |a'a - I| and |b b' - I|; published: 0.1 to 0.5

    def validate(self, where: str) -> None:
        """Numbers that can work."""
        super().validate(where)
        if not 0 < self.target_rank <= self.rank:
            raise UserError(
                f"{where}.target_rank={self.target_rank}: from 1 to rank={self.rank} (usual: two thirds)."
            )
        if min(self.warmup, self.settled) < 0 or self.warmup + self.settled >= 1:
            raise UserError(
                f"{where}: warmup={self.warmup} and settled={self.settled} are shares of the run that leave some of it "
                "between them (usual: 0.1 and 0.3)."
            )
        if self.every < 1 or not 0 < self.decay < 1 or self.orthogonality < 0:
            raise UserError(f"{where}: every >= 1, 0 < decay < 1, orthogonality >= 0 (usual: 10, 0.85, 0.5).")

    def trained(self, one: Facts) -> dict[str, Facts]:
        """LoRA's, and the values between them."""
        return super().trained(one) | {"lora_e": Facts((*parts(one, one.axes)[0], "rank"), 0)}

    def start(self, one: Facts, weight: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """a and b normal with a deviation of 0.02, e zero."""
        own, (key_a, key_b) = super().start(one, weight, key), jax.random.split(key)
        drawn = lambda key, like: 0.02 * jax.random.normal(key, like.shape, jnp.float32)
        stack = parts(one, weight.shape)[0]
        return {
            "lora_a": drawn(key_a, own["lora_a"]),
            "lora_b": drawn(key_b, own["lora_b"]),
            "lora_e": jnp.zeros((*stack, self.rank), jnp.float32),
        }

    def value(self, path: str, base: Any, own: Mapping[str, jax.Array], others: Mapping[str, Any]) -> Tree:
        """LoRA's, with the values in a."""
        a, e = own["lora_a"], own["lora_e"]
        between = e.reshape(*e.shape[:-1], *(1,) * (a.ndim - e.ndim), e.shape[-1])
        return {path: LowRank(base, a * between, own["lora_b"], self.scale)}

    def optimizer(self, made: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
        """With the term of orthogonality before it, and the cuts behind it."""
        schedule = budget.Schedule(
            first=int(self.warmup * steps),
            last=steps - int(self.settled * steps),
            every=self.every,
            rank=self.rank,
            target=self.target_rank,
        )
        return budget.shared(made, schedule, decay=self.decay, orthogonality=self.orthogonality)
