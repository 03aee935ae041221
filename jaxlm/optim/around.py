"""Optimizers around another one: other rates by depth or name, and weights that stay near their start.

    optimizer = LayerDecay(of=AdamW(...), decay=0.9, first=1)

In: an optimizer. Out: one whose updates are the inner one's, times a factor for every parameter (of stacked blocks for
every layer), or which adds to them. They go around each other. A factor is that of the learning rate, weight decay
included; clipping and moments are the inner optimizer's, and see every gradient.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlm.errors import UserError, check_pattern
from jaxlm.optim import bounds, horizon, matrices, transforms
from jaxlm.optim.horizon import Horizon
from jaxlm.optim.matrices import Axes

Link = optax.GradientTransformation
# Stacks of blocks in the order of their layers; both stand in a ModernBERT.
_STACKS = ("first", "blocks")
_DECODERS = ("decoder/table", "scores/table")  # untied tables that predict tokens
_TOP = ("block", "norm")  # blocks that all layers share, and the norm behind the last one


@dataclasses.dataclass(kw_only=True)
class Around:
    """What they share."""

    around: ClassVar[str] = "of"  # on a command line it stands around what is there

    of: Any  # the optimizer inside

    @property
    def schedule(self) -> Any:
        """Of the optimizer inside."""
        return self.of.schedule

    def direction(self, axes: Any) -> Sequence[Link]:
        """Of the optimizer inside."""
        return self.of.direction(axes)

    def make(self, horizon: Horizon, axes: Any, where: str = "config.optimizer") -> Link:
        """The inner chain, and `link` behind it."""
        self.validate(where)
        return optax.chain(self.of.make(horizon, axes, f"{where}.of"), self.link(horizon, axes, where))

    def validate(self, where: str) -> None:
        """Raises UserError for the first value that cannot work."""

    def link(self, horizon: Horizon, axes: Any, where: str) -> Link:
        """What is done to the inner one's updates."""
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class LayerDecay(Around):
    """The rate falls by a factor from layer to layer, from the top down; heads have the full rate (ELECTRA, 2003.10555,
    and Howard and Ruder, 1801.06146).

    Layer i of L has decay^(first + L - 1 - i), embeddings decay^(first + L). Published: ELECTRA small and base 0.8,
    large 0.9, with `first` 2 in its code; ULMFiT 1 / 2.6. Of an encoder-decoder each side counts by itself.
    """

    decay: float  # factor from layer to layer; published: 0.8 to 0.9; deep models 0.9; 1: the same everywhere
    first: int  # power of `decay` that the top layer has: 1; 2 is that of ELECTRA's published code

    def validate(self, where: str) -> None:
        """Checks the factor."""
        bounds.check_number(self.decay, f"{where}.decay", low=0, high=1, fix="0.9 is usual.")
        bounds.check_number(self.first, f"{where}.first", low=0, fix="1 is usual.")

    def link(self, horizon: Horizon, axes: Any, where: str) -> Link:
        """Without state."""
        factors = lambda depth: (
            self.decay ** np.where(depth > 0, depth + self.first - 1, 0).astype(np.float32)
        )
        return _scaled(axes, lambda depth, _: factors(depth))


@dataclasses.dataclass(kw_only=True)
class RateGroups(Around):
    """Rates by name: a small one for the backbone, a large one for a new head."""

    # (regular expression, factor of the learning rate): the first whose match begins a parameter's path counts, such as
    # ("heads/", 10.0); a parameter that none matches keeps its rate
    rates: tuple[tuple[str, float], ...]

    def validate(self, where: str) -> None:
        """Checks patterns and factors."""
        for i, (pattern, factor) in enumerate(self.rates):
            check_pattern(pattern, f"{where}.rates[{i}]")
            bounds.check_number(factor, f"{where}.rates[{i}]", low=0, fix="1 keeps the rate, 0 stops it.")

    def link(self, horizon: Horizon, axes: Any, where: str) -> Link:
        """UserError for a pattern that matches no parameter."""
        paths = [path for path, _ in _flat(axes)]
        for pattern, _ in self.rates:
            if not any(re.match(pattern, path) for path in paths):
                raise UserError(
                    f"{where}.rates: {pattern!r} matches no parameter. Paths: {', '.join(sorted(paths)[:8])}, ..."
                )
        of = lambda path: next((factor for pattern, factor in self.rates if re.match(pattern, path)), 1.0)
        factors = jax.tree.unflatten(_structure(axes), [of(path) for path in paths])
        return optax.stateless(
            lambda updates, _: jax.tree.map(lambda u, factor: u * factor, updates, factors)
        )


class StepState(NamedTuple):
    """`step`: updates done."""

    step: jax.Array


@dataclasses.dataclass(kw_only=True)
class GradualUnfreezing(Around):
    """ULMFiT (Howard and Ruder, 1801.06146, section 3.3): heads learn from the first step on, the top layer
    from `every` on, the one below from twice that on, and embeddings last. Published: one epoch each.

    Until then a layer's update is exactly 0, weight decay included. Its gradient is computed and enters the moments and
    the clipping, as if its rate were 0 (a torch scheduler does the same): it begins with moments that are known.
    """

    every: str  # duration between one layer and the next: "500 steps", or "10%" of the run

    def validate(self, where: str) -> None:
        """Checks the duration."""
        horizon.parse(self.every, f"{where}.every")

    def link(self, horizon: Horizon, axes: Any, where: str) -> Link:
        """Counts the steps."""
        every = horizon.steps(self.every, f"{where}.every")
        trained = _scaled(axes, lambda depth, step: (depth * every <= step).astype(jnp.float32))

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, StepState]:
            updates, _ = trained.update(updates, state.step, params)
            return updates, StepState(state.step + 1)

        return Link(lambda params: StepState(jnp.zeros((), jnp.int32)), update)


class StartState(NamedTuple):
    """`start`: the weights before the first step."""

    start: Any


@dataclasses.dataclass(kw_only=True)
class TowardsStart(Around):
    """L2-SP (Li et al., 1802.01483): what was pre-trained decays towards where it began, heads towards 0.

    Decoupled, as AdamW's decay: the update is - rate * pull * (w - start), of everything but heads. The inner optimizer
    has weight_decay 0 then. Published: 0.01. Its state, and a checkpoint, hold the start: 4 bytes a parameter.
    """

    pull: float  # towards the start, times the learning rate; published: 0.01
    head_decay: float  # of matrices of heads towards 0, times the learning rate; published: 0.01

    def validate(self, where: str) -> None:
        """Two decays that pull one weight to two places are refused."""
        for name in ("pull", "head_decay"):
            bounds.check_number(getattr(self, name), f"{where}.{name}", low=0, fix="0 switches it off.")
        if getattr(self.of, "weight_decay", 0.0):
            raise UserError(
                f"{where}.of.weight_decay={self.of.weight_decay} pulls towards 0 what this pulls towards its start. "
                "Fix: weight_decay=0.0 inside."
            )

    def make(self, horizon: Horizon, axes: Any, where: str = "config.optimizer") -> Link:
        """Reads the rate that the inner optimizer used."""
        self.validate(where)
        inner = self.of.make(horizon, axes, f"{where}.of")
        paths, decayed = [path for path, _ in _flat(axes)], jax.tree.leaves(matrices.decayed(axes))
        heads = jax.tree.unflatten(_structure(axes), [_is_head(path) for path in paths])
        matrix = jax.tree.unflatten(_structure(axes), decayed)

        def init(params: Any) -> tuple[Any, StartState]:
            start = jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)
            return inner.init(params), StartState(start)

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            updates, of = inner.update(updates, state[0], params)
            rate = transforms.measures(of)["learning_rate"]

            def pulled(u: Any, p: Any, start: Any, head: bool, is_matrix: bool) -> Any:
                if head:
                    return u - rate * self.head_decay * p if is_matrix else u
                return u - rate * self.pull * (p - start)

            updates = jax.tree.map(pulled, updates, params, state[1].start, heads, matrix)
            return updates, (of, state[1])

        return Link(init, update)


def _is_head(path: str) -> bool:
    return path.startswith("heads/")


def _flat(axes: Any) -> list[tuple[str, Axes]]:
    """(path, axes) of every parameter, in the order of its leaves."""
    leaves = jax.tree_util.tree_flatten_with_path(axes, is_leaf=matrices.is_axes)[0]
    return [(jax.tree_util.keystr(keys, simple=True, separator="/"), one) for keys, one in leaves]


def _structure(axes: Any) -> Any:
    return jax.tree.structure(axes, is_leaf=matrices.is_axes)


def depths(axes: Any, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Of every parameter how far it is from the heads: they 0, the top layer 1, ..., embeddings layers + 1.

    int32 [] or, of stacked blocks, [layers]. `shapes` in the order of the leaves.
    """
    flat = _flat(axes)
    layers: dict[str, dict[str, int]] = {}  # of a scope (encoder/, decoder/) by stack
    for (path, names), shape in zip(flat, shapes, strict=True):
        if (place := _stack_of(path, names)) is not None:
            layers.setdefault(place[0], {})[place[1]] = shape[0]
    most = max((sum(stacks.values()) for stacks in layers.values()), default=1)
    found = []
    for (path, names), shape in zip(flat, shapes, strict=True):
        place = _stack_of(path, names)
        if place is not None:
            stacks = layers[place[0]]
            above = sum(n for name, n in stacks.items() if _STACKS.index(name) > _STACKS.index(place[1]))
            found.append(above + np.arange(shape[0], 0, -1, dtype=np.int32))
        elif _is_head(path) or path in _DECODERS:
            found.append(np.int32(0))
        else:
            parts = path.split("/")
            top = any(part in _TOP for part in parts[:-1]) and "embeddings" not in parts
            found.append(np.int32(1 if top else most + 1))
    return found


def _stack_of(path: str, names: Axes) -> tuple[str, str] | None:
    """(scope, stack) of a parameter of stacked blocks."""
    if names[0] != "layers":
        return None
    parts = path.split("/")
    at = next(i for i, part in enumerate(parts) if part in _STACKS)
    return "/".join(parts[:at]), parts[at]


def _scaled(axes: Any, factors: Callable[[np.ndarray, Any], Any]) -> Link:
    """Updates times `factors(depth, state)`, [] or [layers]; exactly 0 where the factor is."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(updates)
        made = []
        for u, depth in zip(leaves, depths(axes, [u.shape for u in leaves]), strict=True):
            factor = jnp.asarray(factors(depth, state))
            factor = factor.reshape(factor.shape + (1,) * (u.ndim - factor.ndim)).astype(u.dtype)
            made.append(jnp.where(factor == 0, jnp.zeros_like(u), u * factor))
        return structure.unflatten(made), state

    return Link(lambda params: optax.EmptyState(), update)
