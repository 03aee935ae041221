"""The contract of a view, and views one after another. In: trees of parameters. Out: trees of parts.

Trees are flat here: path -> array, or in a merged tree a value (models/values.py).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import optax

from jaxlm.errors import UserError
from jaxlm.models.parameters import STACKS
from jaxlm.models.paths import flatten, nest

Axes = tuple[str | None, ...]
Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a model says of a parameter."""

    axes: Axes
    inputs: int  # dimensions that are contracted with what comes in, behind layers and experts; 0: no matrix


class View(Protocol):
    """A keyword-only dataclass that derives from this; nothing is registered."""

    def validate(self, where: str) -> None:
        """UserError for settings that cannot work."""
        ...

    def check(self, facts: Mapping[str, Facts], where: str) -> None:
        """UserError when it finds nothing to do in a model with these parameters."""
        ...

    def split(
        self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array
    ) -> tuple[Tree, Tree]:
        """(trained, frozen) of these parameters, arrays both; `key` for what is drawn."""
        ...

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
        """What the model reads, under the paths that were split; traced, inside the loss."""
        ...

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Of what it trains: for the optimizer, shardings and the next view."""
        ...

    def frozen_facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Of what it leaves as it is."""
        trained = self.facts(facts)
        return {path: one for path, one in facts.items() if path not in trained}

    def optimizer(self, made: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
        """The optimizer of a run of so many steps, or what has to stand around it."""
        return made

    def final_from(self, steps: int) -> int:
        """The step of a run of so many from which on the weights may be taken for those of its end."""
        return 0


@dataclasses.dataclass(frozen=True)
class Chain:
    """Views in order, over nested dicts; the frozen part is {number of the view: {...}}."""

    views: tuple[Any, ...]

    def split(self, params: Mapping[str, Any], facts: Mapping[str, Facts], key: jax.Array) -> tuple[Any, Any]:
        """(trained, frozen)."""
        trained, frozen = flatten(params), {}
        for number, view in enumerate(self.views):
            drawn = jax.random.fold_in(key, number)
            trained, frozen[str(number)] = view.split(trained, facts, drawn)
            facts = view.facts(facts)
        return nest(trained), {number: nest(part) for number, part in frozen.items()}

    def merge(self, trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
        """What the model reads."""
        if not self.views:
            return dict(trained)
        merged = flatten(trained)
        for number, view in reversed(list(enumerate(self.views))):
            merged = view.merge(merged, flatten(frozen[str(number)]))
        return nest(merged)

    def facts(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Of what is trained in the end."""
        for view in self.views:
            facts = view.facts(facts)
        return dict(facts)

    def optimizer(self, made: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
        """With what every view asks for."""
        for view in self.views:
            made = view.optimizer(made, steps)
        return made

    def axes(self, facts: Mapping[str, Facts]) -> dict[str, Any]:
        """Logical axes of what is trained, nested."""
        return nest({path: one.axes for path, one in self.facts(facts).items()})

    def frozen_axes(self, facts: Mapping[str, Facts], frozen: Mapping[str, Any]) -> dict[str, Any]:
        """Logical axes of what is frozen, in the structure of `frozen` (arrays or shapes)."""
        found = {}
        for number, view in enumerate(self.views):
            held = view.frozen_facts(facts)
            found[str(number)] = nest({path: held[path].axes for path in flatten(frozen[str(number)])})
            facts = view.facts(facts)
        return found


def parts(one: Facts, what: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Of the axes or the shape of a matrix: what is stacked, what goes in, what comes out."""
    first = next((i for i, name in enumerate(one.axes) if name not in STACKS), 0)
    return what[:first], what[first : first + one.inputs], what[first + one.inputs :]


def matrices(facts: Mapping[str, Facts]) -> str:
    """Their paths, for messages."""
    return ", ".join(sorted(path for path, one in facts.items() if one.inputs))


def check_some(
    facts: Mapping[str, Facts], meant: Callable[[str, Facts], bool], where: str, pattern: str
) -> None:
    """UserError when no matrix is meant. `where`: the key of the pattern."""
    if not any(meant(path, one) for path, one in facts.items()):
        raise UserError(f"{where}={pattern!r} matches no matrix. There are: {matrices(facts)}.")


def bias_of(path: str) -> str:
    """Where the bias of a matrix is, if it has one: that of attention/wo is attention/bo."""
    layer, _, name = path.rpartition("/")
    return f"{layer}/b{name[1:]}"


def facts(model: Any) -> dict[str, Facts]:
    """Of the parameters of a models.build.Model."""
    axes, inputs = flatten(model.axes), flatten(model.inputs)
    return {path: Facts(axes[path], inputs[path]) for path in axes}
