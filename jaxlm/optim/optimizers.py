"""Optimizers as configs. In: a horizon and the logical axes of the parameters. Out: an optax transformation.

Every chain is: clip by global norm, the method's direction, weight decay, learning rate. Decay is decoupled
(the update is -rate * (direction + weight_decay * p), Sgd excepted) and falls on matrices only: no biases, no
norm scales; embeddings are decayed, as published (see matrices.py for the rule). All state is float32 for
float32 parameters. `transforms.measures(opt_state)` gives the last gradient norm and learning rate without
computing anything.
"""

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import optax

from jaxlm.optim import bounds, factored, matrices, transforms
from jaxlm.optim.horizon import Horizon
from jaxlm.optim.schedules import Schedule

Link = optax.GradientTransformation


@dataclasses.dataclass(kw_only=True)
class Optimizer:
    """What all optimizers share. `make` is the whole interface; a new one defines `direction`."""

    schedule: Schedule  # the learning rate over the steps, such as WarmupLinear
    weight_decay: float  # of matrices, times the learning rate; 0: none
    clip_norm: float  # global gradient norm above which gradients are scaled down; 0: never

    def validate(self, where: str) -> None:
        """Raises UserError for the first value that cannot work."""
        self.schedule.validate(f"{where}.schedule")
        for name in ("weight_decay", "clip_norm"):
            bounds.check_number(getattr(self, name), f"{where}.{name}", low=0, fix="0 switches it off.")

    def make(self, horizon: Horizon, axes: Any, where: str = "config.optimizer") -> Link:
        """`axes`: the tree of parameters with a tuple of logical axis names in place of every array."""
        self.validate(where)
        rate = transforms.descend(self.schedule.make(horizon, f"{where}.schedule"))
        return optax.chain(transforms.clip(self.clip_norm), *self.direction(axes), rate)

    def direction(self, axes: Any) -> Sequence[Link]:
        """The links between clipping and the learning rate, weight decay included."""
        raise NotImplementedError

    def _decay(self, axes: Any) -> Link:
        return optax.add_decayed_weights(self.weight_decay, matrices.decayed(axes))


@dataclasses.dataclass(kw_only=True)
class _WithMoments(Optimizer):
    b1: float  # decay of the first moment
    b2: float  # decay of the second moment
    epsilon: float  # added to the root of the second moment

    def validate(self, where: str) -> None:
        """Checks the decays and epsilon."""
        super().validate(where)
        _check_shares(self, where, "b1", "b2")
        bounds.check_positive(self.epsilon, f"{where}.epsilon", fix="1e-8 and 1e-6 are usual.")


@dataclasses.dataclass(kw_only=True)
class AdamW(_WithMoments):
    """Loshchilov and Hutter 2019: mu / (sqrt(nu) + epsilon) + weight_decay * p, with bias correction."""

    def direction(self, axes: Any) -> Sequence[Link]:
        """optax's Adam and weight decay."""
        return optax.scale_by_adam(self.b1, self.b2, self.epsilon), self._decay(axes)


@dataclasses.dataclass(kw_only=True)
class BertAdam(_WithMoments):
    """google-research/bert, optimization.py: AdamW without bias correction (published: clip_norm 1.0)."""

    def direction(self, axes: Any) -> Sequence[Link]:
        """Uncorrected moments and weight decay."""
        return transforms.scale_by_bert_adam(self.b1, self.b2, self.epsilon), self._decay(axes)


@dataclasses.dataclass(kw_only=True)
class Lamb(_WithMoments):
    """You et al. 2020, algorithm 2: AdamW's update times |p| / |update| of every matrix, layers apart.

    As in the published BERT code, what is not decayed (biases, norm scales) is not rescaled either.
    """

    def direction(self, axes: Any) -> Sequence[Link]:
        """AdamW with a trust ratio."""
        adam = optax.scale_by_adam(self.b1, self.b2, self.epsilon)
        return adam, self._decay(axes), transforms.scale_by_trust_ratio(matrices.layouts(axes))


@dataclasses.dataclass(kw_only=True)
class Adafactor(Optimizer):
    """Shazeer and Stern 2018: second moments of matrices kept as rows and columns; layers apart.

    With `parameter_floor` above 0 the schedule is relative: steps are rate * max(parameter_floor, RMS(p)).
    """

    decay_rate: float  # second moments decay with 1 - t^-decay_rate; published: 0.8
    epsilon: float  # added to squared gradients; published: 1e-30
    update_clip: float  # RMS above which a parameter's update is scaled down; published: 1.0; 0: never
    parameter_floor: float  # published: 1e-3; 0: absolute steps
    momentum: float  # moving average of the updates, 0: none (published)
    factor_from: int  # a matrix with a smaller side keeps its full second moment; usual: 128

    def validate(self, where: str) -> None:
        """Checks the settings of the second moment and of the step."""
        super().validate(where)
        bounds.check_number(self.decay_rate, f"{where}.decay_rate", low=0, high=1, fix="0.8 is published.")
        bounds.check_positive(self.epsilon, f"{where}.epsilon", fix="1e-30 is published.")
        for name in ("update_clip", "parameter_floor"):
            bounds.check_number(getattr(self, name), f"{where}.{name}", low=0, fix="0 switches it off.")
        _check_shares(self, where, "momentum")
        bounds.check_number(self.factor_from, f"{where}.factor_from", low=1, fix="128 is usual.")

    def direction(self, axes: Any) -> Sequence[Link]:
        """Factored RMS, then clipping, relative step size and momentum where they are on."""
        layouts = matrices.layouts(axes)
        links = [factored.scale_by_factored_rms(self.decay_rate, self.epsilon, self.factor_from, layouts)]
        if self.update_clip:
            links.append(factored.clip_by_rms(self.update_clip, layouts))
        if self.parameter_floor:
            links.append(factored.scale_by_parameter_rms(self.parameter_floor, layouts))
        if self.momentum:
            links.append(optax.ema(self.momentum, debias=False))
        return *links, self._decay(axes)


@dataclasses.dataclass(kw_only=True)
class Sgd(Optimizer):
    """Gradient descent with heavy-ball momentum; weight decay joins the gradient, as in torch.optim."""

    momentum: float  # share of the sum of gradients so far that is kept; 0: none

    def validate(self, where: str) -> None:
        """Checks the momentum."""
        super().validate(where)
        _check_shares(self, where, "momentum")

    def direction(self, axes: Any) -> Sequence[Link]:
        """Gradient plus decay, then the trace of it."""
        return self._decay(axes), optax.trace(self.momentum)


@dataclasses.dataclass(kw_only=True)
class Lion(Optimizer):
    """Chen et al. 2023: the sign of an interpolated momentum."""

    b1: float  # share of the momentum in the update
    b2: float  # decay of the momentum

    def validate(self, where: str) -> None:
        """Checks the decays."""
        super().validate(where)
        _check_shares(self, where, "b1", "b2")

    def direction(self, axes: Any) -> Sequence[Link]:
        """optax's Lion and weight decay."""
        return optax.scale_by_lion(self.b1, self.b2), self._decay(axes)


@dataclasses.dataclass(kw_only=True)
class Muon(_WithMoments):
    """Jordan 2024: momentum of hidden matrices orthogonalised, each layer by itself; AdamW for the rest.

    Hidden matrices have feature axes in matrices.HIDDEN only, so embeddings, output heads, biases and norm
    scales are AdamW's, with `rest_schedule`, b1, b2 and epsilon. optax corrects the Nesterov momentum for its
    bias, which matters in the first updates only; the original does not.
    """

    momentum: float  # published: 0.95, Nesterov
    iterations: int  # of Newton-Schulz; published: 5
    update_rms: float  # of a matrix; 0.2 is AdamW's (Liu et al. 2025); 0: factor sqrt(max(1, cols/rows))
    rest_schedule: Schedule  # learning rate of all that is no hidden matrix

    def validate(self, where: str) -> None:
        """Checks momentum, iterations and scale."""
        super().validate(where)
        self.rest_schedule.validate(f"{where}.rest_schedule")
        _check_shares(self, where, "momentum")
        bounds.check_number(self.iterations, f"{where}.iterations", low=1, high=100, fix="5 is published.")
        bounds.check_number(self.update_rms, f"{where}.update_rms", low=0, fix="0.2 matches AdamW's updates.")

    def make(self, horizon: Horizon, axes: Any, where: str = "config.optimizer") -> Link:
        """Two chains behind one clipping; `measures` reports the rate of the matrices."""
        self.validate(where)
        layouts = matrices.layouts(axes)
        labels = jax.tree.map(lambda x: "matrices" if _orthogonalised(x) else "rest", layouts)
        decay = optax.add_decayed_weights(self.weight_decay)
        rate = transforms.descend(self.schedule.make(horizon, f"{where}.schedule"))
        rest_rate = self.rest_schedule.make(horizon, f"{where}.rest_schedule")
        adam = optax.scale_by_adam(self.b1, self.b2, self.epsilon)
        chains: dict[Hashable, Link] = {
            "matrices": optax.chain(*self._orthogonal(layouts), decay, rate),
            "rest": optax.chain(adam, self._decay_rest(layouts), optax.scale_by_learning_rate(rest_rate)),
        }
        return optax.chain(transforms.clip(self.clip_norm), optax.partition(chains, labels))

    def _orthogonal(self, layouts: Any) -> Sequence[Link]:
        # optax.partition hides the rest behind MaskedNodes; trees that go with its updates need them as well.
        layouts = jax.tree.map(lambda x: x if _orthogonalised(x) else optax.MaskedNode(), layouts)
        dimensions = jax.tree.map(lambda x: optax.contrib.MuonDimensionNumbers(*x.groups), layouts)
        muon = optax.contrib.scale_by_muon(
            ns_steps=self.iterations, beta=self.momentum, weight_dimension_numbers=dimensions
        )
        return muon, optax.stateless(lambda u, _: jax.tree.map(self._scaled, u, layouts))

    def _scaled(self, u: jax.Array, layout: matrices.Dimensions) -> jax.Array:
        rows, cols = (matrices.size(u.shape, group) for group in layout.groups)
        if self.update_rms:  # an orthogonal matrix has the RMS 1 / sqrt(max(rows, cols))
            return u * self.update_rms * math.sqrt(max(rows, cols))
        return u * math.sqrt(max(1.0, cols / rows))

    def _decay_rest(self, layouts: Any) -> Link:
        mask = jax.tree.map(lambda x: optax.MaskedNode() if _orthogonalised(x) else x.is_matrix, layouts)
        return optax.add_decayed_weights(self.weight_decay, mask)


def _orthogonalised(layout: matrices.Dimensions) -> bool:
    return layout.hidden and len(layout.groups) == 2


def _check_shares(config: Any, where: str, *names: str) -> None:
    for name in names:
        fix = "It is the share of the old value that is kept, such as 0.9."
        bounds.check_number(getattr(config, name), f"{where}.{name}", low=0, high=1, strict=True, fix=fix)
