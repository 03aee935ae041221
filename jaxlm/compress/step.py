"""The contract of a step, and the recipe that has several. In: a model ready to use. Out: a smaller one.

Weights are given to a step by path, as arrays or values (models/values.py), with what the model says of each.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from jaxlm.compress.calibration import Calibration, Text
from jaxlm.config import tree
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.models.build import build
from jaxlm.models.paths import flatten, nest
from jaxlm.partition import state as partition
from jaxlm.views.rounding import is_table
from jaxlm.views.view import Facts, facts, matrices

Say = Callable[[str], None]


class Step(Protocol):
    """A keyword-only dataclass that derives from this; nothing is registered."""

    def validate(self, where: str) -> None:
        """UserError for settings that cannot work."""
        ...

    @property
    def calibrated(self) -> bool:
        """Whether it needs text."""
        return False

    def check(self, model: Loaded) -> None:
        """UserError when it finds nothing to do in the model, or what it cannot do."""
        ...

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """The model, changed; UserError as `check`."""
        ...


@dataclasses.dataclass(kw_only=True)
class Compress:
    """What `jaxlm compress` does."""

    steps: tuple[Any, ...]  # one after the other
    calibration: Text  # what activations are measured on, by the steps that need them

    def validate(self) -> None:
        """UserError for what cannot work."""
        tree.check_types(self, "config")
        if not self.steps:
            raise UserError("config.steps is empty: nothing would be done. Fix: a recipe that has one.")
        for number, step in enumerate(self.steps):
            step.validate(f"config.steps[{number}]")
        self.calibration.validate("config.calibration")

    @property
    def calibrated(self) -> bool:
        """Whether text is needed."""
        return any(step.calibrated for step in self.steps)

    def check(self, model: Loaded) -> None:
        """The first step, before text is read for it: others see what it leaves."""
        self.steps[0].check(model)

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """All steps; text is read anew for those behind one that changed the tokenizer."""
        for number, step in enumerate(self.steps):
            before, model = model.tokenizer, step.apply(model, text, say)
            if model.tokenizer is not before and any(one.calibrated for one in self.steps[number + 1 :]):
                text = self.calibration.read(model)
        return model


def with_weights(model: Loaded, weights: Mapping[str, Any]) -> Loaded:
    """The model with these in place of its own, by path."""
    return dataclasses.replace(model, params=nest(flatten(model.params) | dict(weights)))


def rebuilt(model: Loaded, config: Any, weights: Mapping[str, Any]) -> Loaded:
    """A model of this config, with these in place of its own by path, laid out on its mesh."""
    made = build(config, model.model.heads, dtype=model.model.dtype)
    params = flatten(model.params) | dict(weights)
    wanted = {path: shape.shape for path, shape in flatten(made.shapes).items()}
    assert wanted == {path: leaf.shape for path, leaf in params.items()}
    places = partition.shardings(made.shapes, made.axes, model.mesh)
    stored = dataclasses.replace(model.stored, config=config)
    return dataclasses.replace(model, model=made, params=jax.device_put(nest(params), places), stored=stored)


def named(model: Loaded, weights: str) -> dict[str, Facts]:
    """The matrices, no tables, whose path begins with a match. UserError when there is none."""
    known = facts(model.model)
    found = {
        path: one
        for path, one in known.items()
        if one.inputs and not is_table(one) and re.match(weights, path)
    }
    if not found:
        raise UserError(f"weights={weights!r} names no matrix. There are: {matrices(known)}.")
    return found
