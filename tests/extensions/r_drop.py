"""R-Drop (Liang et al., 2106.14448) around masked language modelling: two passes with two dropouts that must agree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch, Loss
from jaxlm.config import Run
from jaxlm.objectives import scores
from jaxlm.objectives.wrapped import Wrapped
from tests.extensions import balanced


@dataclasses.dataclass(kw_only=True)
class RDrop(Wrapped):
    """Equation 4: the cross-entropies of both passes, and `alpha` times their symmetric divergence."""

    alpha: float  # published: 1 to 5

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Both terms count the targets."""
        inner = self.of.weights(batch)
        return {**inner, "r_drop": inner["mlm"]}

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """Terms `mlm` and `r_drop`; an evaluation, which has no dropout, is that of the objective inside."""
        if key is None:
            return super().loss(model, batch, key)
        passes = [self.predict(model, batch, k) for k in jax.random.split(key)]
        first, second = (self.score(one, batch) for one in passes)
        one, other = (p["mlm"]() for p in passes)
        count = scores.count(weights_BM := passes[0]["mlm"].weights_BM)
        apart = divergence(one, other, weights_BM)
        both = first.terms["mlm"][0] + second.terms["mlm"][0]
        model_terms = jax.tree.map(jnp.add, *(dict(p.terms) for p in passes))  # a mean over both passes
        terms = {"mlm": (both, count), "r_drop": (self.alpha * apart, count), **model_terms}
        return Loss(terms, {**first.measures, "r_drop": (apart, count), **model_terms})


def divergence(a_BMV: Array, b_BMV: Array, weights_BM: Array) -> Array:
    """Sum over real slots of (KL(a, b) + KL(b, a)) / 2 of two sets of logits."""
    log_a, log_b = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (a_BMV, b_BMV))
    nats_BM = 0.5 * ((jnp.exp(log_a) - jnp.exp(log_b)) * (log_a - log_b)).sum(-1)
    return jnp.where(weights_BM > 0, nats_BM * weights_BM, 0.0).sum()


def get_config() -> Run:
    """On a model that is not of jaxlm either, and has a term of its own."""
    run = balanced.get_config()
    run.objective = RDrop(of=run.objective, alpha=2.0)
    return run
