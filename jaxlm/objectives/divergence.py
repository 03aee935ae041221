"""How far a student's answer is from its teacher's, slot by slot. In: two sets of logits. Out: nats, float32.

Hinton et al., 1503.02531: both are softened by a temperature, and the divergence is multiplied with its square, so that
its gradient stays as large as that of a cross-entropy.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jaxlm.batch import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Divergence:
    """Kullback-Leibler: forward is KL(teacher, student), reverse KL(student, teacher)."""

    temperature: float
    direction: Literal["forward", "reverse"]

    def of_classes(self, student: Array, teacher: Array) -> Array:
        """[...] of [..., K]: one class of K."""
        log_p, log_q = (jax.nn.log_softmax(a / self.temperature) for a in self._ordered(student, teacher))
        return self.temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)

    def of_labels(self, student: Array, teacher: Array) -> Array:
        """[...] of [..., K]: a yes or no for each of K, their mean."""
        a, b = (a / self.temperature for a in self._ordered(student, teacher))
        yes = jax.nn.sigmoid(a) * (jax.nn.log_sigmoid(a) - jax.nn.log_sigmoid(b))
        no = jax.nn.sigmoid(-a) * (jax.nn.log_sigmoid(-a) - jax.nn.log_sigmoid(-b))
        return self.temperature**2 * (yes + no).mean(axis=-1)

    def _ordered(self, student: Array, teacher: Array) -> tuple[Array, Array]:
        student, teacher = student.astype(jnp.float32), teacher.astype(jnp.float32)
        return (teacher, student) if self.direction == "forward" else (student, teacher)
