"""Each weight in the form that it can bear. In: forms, a budget of bytes, text. Out: `Quantised` values and arrays.

Every weight is rounded alone, in every form, and what the model's answers lose by that is measured on the text. Bytes
then go where each saves most. Losses of several weights together are taken as their sum.
"""

import dataclasses
import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlm.batch import Batch
from jaxlm.compress.calibration import Calibration
from jaxlm.compress.rounding import Finder, Quantise, size_of
from jaxlm.compress.step import Say, Step, with_weights
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.models.build import Model
from jaxlm.models.paths import flatten
from jaxlm.models.values import whole
from jaxlm.views.rounding import Rounding, chosen
from jaxlm.views.view import facts


class Choice(NamedTuple):
    """A form of a weight."""

    rule: Rounding | None  # None: it stays as it is
    bytes: int
    lost: float  # what the model's answers lose by it


@dataclasses.dataclass(kw_only=True)
class MixedPrecision(Step):
    """The forms of weights that lose least within a budget, by measured sensitivity (as HAWQ's: 1911.03852)."""

    rules: tuple[
        Rounding, ...
    ]  # forms; a weight may have that of every rule that matches it, or stay as it is
    share: float  # bytes of those weights, of their bytes in float32: no more than this
    finder: Finder  # of the codes, once the forms are chosen; sensitivity is measured on the nearest

    def validate(self, where: str) -> None:
        """Rules, share and finder."""
        for number, rule in enumerate(self.rules):
            rule.validate(f"{where}.rules[{number}]")
        if not 0 < self.share <= 1:
            raise UserError(f"{where}.share={self.share}: must be above 0 and at most 1, such as 0.2.")
        self.finder.validate(f"{where}.finder")

    @property
    def calibrated(self) -> bool:
        """Always."""
        return True

    def check(self, model: Loaded) -> None:
        """As `Quantise` with each rule; heads of encoders are refused, which the text says nothing of."""
        for rule in self.rules:
            Quantise(rules=(rule,), finder=self.finder).check(model)
            heads = [path for path in chosen((rule,), facts(model.model)) if path.startswith("heads/")]
            if heads and model.model.config.kind != "decoder":
                raise UserError(
                    f"weights={rule.weights!r} names {heads[0]}, and text shows no loss of a head of an encoder. Fix: "
                    "a pattern without heads."
                )

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """Measured, chosen, rounded."""
        self.check(model)
        assert text is not None
        choices = {path: self._choices(model, text, path) for path in self._paths(model)}
        found = cheapest(choices, self.share)
        for path, one in found.items():
            say(f"  {path}: {_told(one.rule)}, {one.bytes / 1e6:,.1f} MB, loses {one.lost:.3g}")
        kept = {path: one.rule for path, one in found.items() if one.rule is not None}
        rules = tuple(dataclasses.replace(rule, weights=f"{re.escape(path)}$") for path, rule in kept.items())
        return Quantise(rules=rules, finder=self.finder).apply(model, text, say) if rules else model

    def _paths(self, model: Loaded) -> list[str]:
        known = facts(model.model)
        named = {path for rule in self.rules for path in chosen((rule,), known)}
        return [path for path in known if path in named]

    def _choices(self, model: Loaded, text: Calibration, path: str) -> list[Choice]:
        weight, known = flatten(model.params)[path], facts(model.model)
        found = [Choice(None, size_of(jax.eval_shape(lambda a: a.astype(jnp.float32), weight)), 0.0)]
        with jax.set_mesh(model.mesh):
            for rule in (rule for rule in self.rules if re.match(rule.weights, path)):
                nearest = functools.partial(rule.nearest, path, known[path])
                value = jax.jit(nearest)(whole(weight).astype(jnp.float32))
                found.append(
                    Choice(rule, size_of(value), lost(model, with_weights(model, {path: value}), text))
                )
        return found


def lost(before: Loaded, after: Loaded, text: Calibration) -> float:
    """What answers lose on a text: of a decoder the KL divergence of the next token, in nats; of an encoder the squares
    of the differences of its states, as a part of the states' own."""
    found = [float(_lost(before.model, before.params, after.params, batch)) for batch in text.batches()]
    return sum(found) / len(found)


@functools.partial(jax.jit, static_argnums=0)
def _lost(model: Model, before: Any, after: Any, batch: Batch) -> jax.Array:
    def states(params: Any) -> tuple[Any, jax.Array]:
        module = model.bind(params)
        return module, module.encode(batch, None).x_BTD.astype(jnp.float32)

    (old, old_BTD), (new, new_BTD) = states(before), states(after)
    if model.config.kind != "decoder":
        return jnp.square(new_BTD - old_BTD).sum() / jnp.square(old_BTD).sum()

    def of_row(_: None, rows: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        log_p, log_q = (
            jax.nn.log_softmax(module.predict_tokens(x_TD[None]).astype(jnp.float32))
            for module, x_TD in zip((old, new), rows, strict=True)
        )
        return None, (jnp.exp(log_p) * (log_p - log_q)).sum(-1).mean()

    return jax.lax.scan(of_row, None, (old_BTD, new_BTD))[1].mean()  # row by row: logits are large


def cheapest(choices: dict[str, list[Choice]], share: float) -> dict[str, Choice]:
    """{path: its choice}. All begin in their smallest form; what gives most for its bytes is taken while they last.

    The first choice of a path is what it is now. UserError when the smallest forms are too large.
    """
    budget = share * sum(one[0].bytes for one in choices.values())
    found = {path: min(one, key=lambda choice: (choice.bytes, choice.lost)) for path, one in choices.items()}
    spent = sum(choice.bytes for choice in found.values())
    if spent > budget:
        raise UserError(
            f"share={share:g} leaves {budget / 1e6:,.1f} MB, and the smallest forms take {spent / 1e6:,.1f}. Fix: a "
            "larger share, or rules with smaller forms."
        )
    while True:
        better = [
            (path, one)
            for path, now in found.items()
            for one in choices[path]
            if one.lost < now.lost and spent + one.bytes - now.bytes <= budget
        ]
        if not better:
            return found
        gain = lambda path, one: (found[path].lost - one.lost) / max(one.bytes - found[path].bytes, 1e-9)
        path, one = max(better, key=lambda pair: gain(*pair))
        spent += one.bytes - found[path].bytes
        found[path] = one


def _told(rule: Rounding | None) -> str:
    if rule is None:
        return "as it is"
    group = f", groups of {rule.group}" if rule.group else ""
    return f"{rule.kind}{group}{' with the lowest' if rule.low else ''}, activations {rule.activations}"
