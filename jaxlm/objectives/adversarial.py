"""Adversaries at the embeddings: small changes, one for every item, that make the loss larger. In: an objective.

    objective = FGM(of=objective, epsilon=1.0)

Around any objective, R-Drop and noise included. What is disturbed is what goes into the blocks, behind positions and
norm. The dropout of a step is one for all its passes. The way to an adversary costs a pass forward and back to the
embeddings, without gradients of weights. In bfloat16 a change smaller than 1/256 of an entry is rounded away.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch, Loss
from jaxlm.errors import UserError
from jaxlm.objectives import disturbed
from jaxlm.objectives.wrapped import Wrapped, check_at_least, check_one_pass, refuse_pairs

_START = 12  # fold of a pass's key, for where an ascent begins


class Adversary(Wrapped):
    """What they share; a subclass says how it climbs and which losses count."""

    one_pass = False

    def check_model(self, model: Any, where: str) -> None:
        """A generator and a discriminator embed each by itself."""
        refuse_pairs(self, model, where)
        super().check_model(model, where)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """A loss under attack counts what the loss counts."""
        inner = self.of.weights(batch)
        return {**inner, **{f"{name}_adversarial": weight for name, weight in inner.items()}}

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """That of the objective inside, plain where nothing is learned."""
        return super().loss(model, batch, key) if key is None else self.attacked(model, batch, key)

    def attacked(self, model: Any, batch: Batch, key: Array) -> Loss:
        """The loss of a step of training."""
        raise NotImplementedError

    def loss_near(self, model: Any, batch: Batch, key: Array, r: Any) -> Loss:
        """Of the objective inside, at embeddings + r."""
        return self.of.loss(disturbed.near(model, r), batch, key)

    def uphill(self, model: Any, batch: Batch, key: Array, r: Any) -> Any:
        """The direction in which the loss at r grows fastest, of length 1 for every item."""
        held = jax.lax.stop_gradient(model)

        def total(r: Any) -> Array:
            terms = self.loss_near(held, batch, key, r).terms.values()
            return sum((s for s, _ in terms), start=jnp.zeros(()))

        return disturbed.unit(jax.grad(total)(r), batch)

    def added(self, model: Any, batch: Batch, key: Array, r: Any) -> Loss:
        """The plain loss and, as terms of their own, that under attack."""
        plain, hard = self.of.loss(model, batch, key), self.loss_near(model, batch, key, r)
        more = {f"{name}_adversarial": pair for name, pair in hard.terms.items()}
        return Loss({**plain.terms, **more}, {**plain.measures, **more})


@dataclasses.dataclass(kw_only=True)
class FGM(Adversary):
    """Miyato et al., 1605.07725: r = epsilon g / |g| of every item; both losses count.

    Published: 0.1 to 1. A step costs three passes.
    """

    epsilon: float  # length of an item's change; published: 0.1 to 1

    def validate(self, where: str) -> None:
        """UserError for a negative length."""
        check_at_least(self, where, 0.0, "epsilon")

    def attacked(self, model: Any, batch: Batch, key: Array) -> Loss:
        """One step uphill from nothing."""
        g = self.uphill(model, batch, key, disturbed.zeros(model, batch))
        return self.added(model, batch, key, jax.tree.map(lambda g: self.epsilon * g, g))


@dataclasses.dataclass(kw_only=True)
class PGD(Adversary):
    """Madry et al., 1706.06083: several steps uphill from nothing, each item kept within a ball; both the plain loss
    and that at the last point count. Usual for texts: 3 steps of 0.3 within 1. A step costs `steps` + 2 passes."""

    steps: int  # uphill; usual: 3
    rate: float  # length of each step; usual: 0.3, of FreeLB 0.03 to 0.1
    radius: float  # of the ball; usual: 1; 0: no limit

    def validate(self, where: str) -> None:
        """UserError for no step, or a negative length."""
        check_at_least(self, where, 1, "steps")
        check_at_least(self, where, 0.0, "rate", "radius")

    def attacked(self, model: Any, batch: Batch, key: Array) -> Loss:
        """From the end of the way."""
        step = lambda r, _: (self._moved(model, batch, key, r), None)
        r, _ = jax.lax.scan(step, disturbed.zeros(model, batch), length=self.steps)
        return self.added(model, batch, key, jax.lax.stop_gradient(r))

    def _moved(self, model: Any, batch: Batch, key: Array, r: Any) -> Any:
        moved = jax.tree.map(lambda r, g: r + self.rate * g, r, self.uphill(model, batch, key, r))
        return disturbed.within(moved, self.radius, batch)


@dataclasses.dataclass(kw_only=True)
class FreeLB(PGD):
    """Zhu et al., 1909.11764: the mean loss of all points on the way, the first of them drawn; the last step's end is
    not asked. Published: 2 to 5 steps of 0.03 to 0.1. A step costs 2 `steps` passes, and the memory of one."""

    start: float  # the first point is uniform in +-start / sqrt(L D); published: 0.1 to 0.8; 0: nothing is changed

    def validate(self, where: str) -> None:
        """UserError for a negative size."""
        super().validate(where)
        check_at_least(self, where, 0.0, "start")

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Those inside: their mean has their names."""
        return self.of.weights(batch)

    def attacked(self, model: Any, batch: Batch, key: Array) -> Loss:
        """The mean over the way; its passes are computed again for the gradient, one at a time."""
        uniform = lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)
        like = disturbed.zeros(model, batch)
        drawn = disturbed.drawn(uniform, jax.random.fold_in(key, _START), like)

        def step(r: Any, _: None) -> tuple[Any, Loss]:
            moved = jax.lax.stop_gradient(self._moved(model, batch, key, r))
            return moved, self.loss_near(model, batch, key, r)

        first = disturbed.spread(drawn, self.start, batch)
        _, losses = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), first, length=self.steps)
        return jax.tree.map(lambda x: x.mean(0), losses)


@dataclasses.dataclass(kw_only=True)
class Smart(Adversary):
    """Jiang et al., 1911.03437, equation 2: what the model says may not change within |r| <= epsilon (largest entry).

    The loss, and `weight` times the divergence of what is said at r and at 0, r being one item's worst change after
    `steps` steps of g / max|g|. Published: weight 1 to 5, epsilon 1e-5, rate 1e-3, scale 1e-5, one step. Its published
    code ends with the largest entry at 1, without epsilon. The second part of the method, a proximal term towards an
    average of the weights, is `Proximal` (anchored.py). A step costs `steps` + 2 passes.
    """

    weight: float  # of the divergence; published: 1 to 5
    steps: int  # uphill; published: 1
    rate: float  # largest entry of a step; published: 1e-3
    epsilon: float  # largest entry of the change; published: 1e-5
    scale: float  # standard deviation of where it begins; published: 1e-5

    def validate(self, where: str) -> None:
        """UserError for no step, a negative size, or what cannot be asked twice."""
        check_at_least(self, where, 1, "steps")
        check_at_least(self, where, 0.0, "weight", "rate", "epsilon", "scale")
        check_one_pass(self, where)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """The divergence of an output counts what its loss counts."""
        inner = self.of.weights(batch)
        return {**inner, **{f"{name}_apart": weight for name, weight in inner.items()}}

    def attacked(self, model: Any, batch: Batch, key: Array) -> Loss:
        """The loss, and how far the worst change moves what is said."""
        said = self.of.predict(model, batch, key)
        plain = self.of.score(said, batch)
        apart = self.of.apart(said, self._said_near(model, batch, key, self._worst(model, batch, key)))
        if not apart:
            raise UserError(f"Smart around {type(self.of).__name__}: it has no classes that could be kept.")
        terms = {f"{name}_apart": (self.weight * total, weight) for name, (total, weight) in apart.items()}
        shown = {f"{name}_apart": pair for name, pair in apart.items()}
        return Loss({**plain.terms, **terms, **said.terms}, {**plain.measures, **shown, **said.terms})

    def _said_near(self, model: Any, batch: Batch, key: Array, r: Any) -> Any:
        return self.of.predict(disturbed.near(model, r), batch, key)

    def _worst(self, model: Any, batch: Batch, key: Array) -> Any:
        held = jax.lax.stop_gradient(model)
        said = self.of.predict(held, batch, key)

        def total(r: Any) -> Array:
            apart = self.of.apart(said, self._said_near(held, batch, key, r)).values()
            return sum((s for s, _ in apart), start=jnp.zeros(()))

        like = disturbed.zeros(model, batch)
        normal = disturbed.drawn(jax.random.normal, jax.random.fold_in(key, _START), like)
        r = jax.tree.map(lambda n: self.scale * n, normal)
        for _ in range(self.steps):
            g = disturbed.unit_entries(jax.grad(total)(r), batch)
            r = jax.tree.map(lambda r, g: jnp.clip(r + self.rate * g, -self.epsilon, self.epsilon), r, g)
        return jax.lax.stop_gradient(disturbed.real(r, batch))
