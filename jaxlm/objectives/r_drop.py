"""R-Drop: two passes with two dropouts that must agree. In: an objective of one pass. Out: its loss with a term more.

objective = RDrop(of=objective, alpha=1.0)
"""

import dataclasses
from typing import Any

import jax

from jaxlm.batch import Array, Batch, Loss
from jaxlm.errors import UserError
from jaxlm.objectives.wrapped import Wrapped, check_at_least, check_one_pass


@dataclasses.dataclass(kw_only=True)
class RDrop(Wrapped):
    """Liang et al., 2106.14448: the mean loss of both passes, and `alpha` times their symmetric divergence.

    As the published code has it; the paper's equation adds the two losses, so its alpha is twice this one. Published
    (code): 0.1 to 1 on GLUE, 5 in translation. A step costs two passes forward and backward.
    """

    one_pass = False

    alpha: float  # weight of the divergence; published: 0.1 to 1 on GLUE, 5 in translation

    def validate(self, where: str) -> None:
        """UserError for a negative weight, or what cannot be asked twice."""
        check_at_least(self, where, 0.0, "alpha")
        check_one_pass(self, where)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """The divergence of an output counts what its loss counts: items, or tokens."""
        inner = self.of.weights(batch)
        return {**inner, **{f"{name}_apart": weight for name, weight in inner.items()}}

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """Terms of the objective inside, and `..._apart`; an evaluation, which has no dropout, is that inside."""
        if key is None:
            return super().loss(model, batch, key)
        one, other = (self.of.predict(model, batch, k) for k in jax.random.split(key))
        first, second = (self.of.score(passed, batch) for passed in (one, other))
        mean = lambda a, b: jax.tree.map(lambda x, y: 0.5 * (x + y), a, b)
        both, own = mean(first, second), mean(dict(one.terms), dict(other.terms))
        apart = self.of.apart(one, other)
        if not apart:
            raise UserError(
                f"RDrop around {type(self.of).__name__}: it has no classes that two passes agree on."
            )
        terms = {f"{name}_apart": (self.alpha * total, weight) for name, (total, weight) in apart.items()}
        shown = {f"{name}_apart": pair for name, pair in apart.items()}
        return Loss({**both.terms, **terms, **own}, {**both.measures, **shown, **own})
