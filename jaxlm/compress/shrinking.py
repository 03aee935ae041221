"""A smaller dense model of the same family: fewer heads, MLP units, layers, features. In: how many go. Out: the model.

Its config says the new sizes, so that everything that takes the family takes it: training, serving, export. First
layers go, then heads, units and features; activations are measured anew for each, on what is left.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np

from jaxlm.compress import cutting, narrowing
from jaxlm.compress.calibration import Calibration
from jaxlm.compress.cutting import Part
from jaxlm.compress.step import Say, Step, rebuilt
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.models.build import build
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import is_value


@dataclasses.dataclass(kw_only=True)
class Shrink(Step):
    """Heads and units are chosen layer by layer, in every layer as many."""

    heads: float  # share of the attention heads that goes; of grouped ones each key head with its queries; 0: none
    units: float  # share of the hidden units of every MLP that goes; 0: none
    layers: int  # so many go; 0: none
    width: float = 0.0  # share of the features between layers that goes, the same of all; 0: none
    # activations: what costs least once the rest has made it good (ZipLM: 2302.04089), of layers what moves the
    # result least; magnitude: the smallest weights; random: a baseline
    by: Literal["activations", "magnitude", "random"]
    damping: float  # by activations: added to the diagonal of X^T X, as a part of its mean; 0.01 is customary
    seed: int  # of by="random"

    def validate(self, where: str) -> None:
        """UserError for what is no share, or when nothing is to go."""
        for name in ("heads", "units", "width"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{where}.{name}={getattr(self, name)}: must be 0 to below 1, such as 0.25.")
        if self.layers < 0:
            raise UserError(f"{where}.layers={self.layers}: must be 0 or more, the number of layers that go.")
        if not (self.heads or self.units or self.layers or self.width):
            raise UserError(
                f"{where}: heads, units, layers and width are all 0, and nothing would go. Fix: units=0.25."
            )
        if not 0 < self.damping <= 1:
            raise UserError(f"{where}.damping={self.damping}: must be above 0 and at most 1, such as 0.01.")

    @property
    def calibrated(self) -> bool:
        """By activations."""
        return self.by == "activations"

    def check(self, model: Loaded) -> None:
        """UserError for a family, or a model, of which this cannot go."""
        config, weights = model.model.config, flatten(model.params)
        if compressed := [path for path, leaf in weights.items() if is_value(leaf)]:
            raise UserError(
                f"{model.stored.where} holds {compressed[0]} compressed. Fix: shrink first, then round."
            )
        if config.kind not in ("encoder", "decoder"):
            raise UserError(
                f"{type(config).__name__} is of the kind {config.kind}, and encoders and decoders are shrunk. Fix: "
                "rounding with finder=Nearest(), which takes every model."
            )
        for part in self._parts():
            self._kept(part(model))
        if self.layers:
            cutting.check_layers(model, self.layers)
        if self.width:
            narrowing.check(model)
            self._staying("width", "features", model.model.config.hidden)

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """Layers, heads, units, features."""
        self.check(model)
        before = _numbers(model)
        if self.layers:
            model = self._without_layers(model, text, say)
        for named in self._parts():
            part = named(model)
            model = self._without(model, part, text)
            say(f"  {self._kept(part)} of {part.groups} {part.name} stay")
        if self.width:
            model = self._narrower(model, text, say)
        say(f"Shrink by {self.by}: {before:,} -> {_numbers(model):,} parameters")
        return model

    def _parts(self) -> list[Callable[[Loaded], Part]]:
        return [cutting.heads] * bool(self.heads) + [cutting.units] * bool(self.units)

    def _kept(self, part: Part) -> int:
        return self._staying(part.name, part.said, part.groups)

    def _staying(self, name: str, said: str, number: int) -> int:
        """How many of them. UserError where none would go."""
        share = getattr(self, name)
        gone = round(share * number)
        if not 0 < gone < number:
            raise UserError(
                f"{name}={share}: {gone} of {number} {said} would go. Fix: a share from "
                f"{1 / number:.2g} to {1 - 1 / number:.2g}, or 0."
            )
        return number - gone

    def _without(self, model: Loaded, part: Part, text: Calibration | None) -> Loaded:
        keep, made = self._kept(part), {}
        inputs = text.inputs(model, part.outputs) if self.calibrated and text is not None else {}
        with jax.set_mesh(model.mesh):
            for number, path in enumerate(part.outputs):
                if path in inputs:
                    made |= cutting.fitted(model, part, path, inputs.pop(path).square_II, keep, self.damping)
                    continue
                size_XG = cutting.sizes(model, part, path)
                if self.by == "random":
                    size_XG = np.random.default_rng((self.seed, number)).random(size_XG.shape)
                made |= cutting.cut(
                    model, part, path, np.sort(np.argsort(-size_XG, axis=-1)[:, :keep], axis=-1)
                )
        return rebuilt(model, part.config(keep), made)

    def _narrower(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        number = model.model.config.hidden
        keep = self._staying("width", "features", number)
        seen = narrowing.measured(model, text) if self.calibrated and text is not None else None
        if seen is not None:
            size_D = narrowing.worth(model, seen)
        elif self.by == "magnitude":
            size_D = narrowing.sizes(model)
        else:
            size_D = np.random.default_rng(self.seed).random(number)
        say(f"  {keep} of {number} features stay")
        config = dataclasses.replace(model.model.config, hidden=keep)
        with jax.set_mesh(model.mesh):
            return rebuilt(model, config, narrowing.cut(model, np.sort(np.argsort(-size_D)[:keep]), seen))

    def _without_layers(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """One after the other."""
        found, names = model, list(range(model.model.config.layers))
        drawn = np.random.default_rng(self.seed).permutation(len(names)).tolist()
        for number in range(self.layers):
            if self.by == "activations":
                assert text is not None
                cost = _moved(model, found, text)
            elif self.by == "magnitude":
                cost = cutting.sizes_of_layers(found)
            else:
                cost = np.array([name not in drawn[: number + 1] for name in names], float)
            at = int(np.argmin(cost))
            say(f"  layer {names.pop(at)} goes")
            config = dataclasses.replace(found.model.config, layers=len(names))
            found = rebuilt(found, config, cutting.without_layer(found, at))
        return found


def _moved(original: Loaded, model: Loaded, text: Calibration) -> np.ndarray:
    """How far the result is from the original's, squared and summed, without each of the layers."""
    config = dataclasses.replace(model.model.config, layers=model.model.config.layers - 1)
    smaller = build(config, model.model.heads, dtype=model.model.dtype)
    of = lambda model: jax.jit(lambda params, batch: model.bind(params).encode(batch, None).x_BTD)
    whole, without = of(original.model), of(smaller)
    found = np.zeros(model.model.config.layers)
    with jax.set_mesh(model.mesh):
        for batch in text.batches():
            exact_BTD = np.asarray(whole(original.params, batch), np.float32)
            for at in range(len(found)):
                params = nest(flatten(model.params) | cutting.without_layer(model, at))
                found[at] += np.square(np.asarray(without(params, batch), np.float32) - exact_BTD).sum()
    return found


def _numbers(model: Loaded) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(model.params))
