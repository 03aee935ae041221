"""Heads: what stands on a model's features for the sake of an objective. In: a `Head` and a config. Out: its module.

An objective names its heads (`Objective.heads`), `build` puts their parameters under `heads/<name>`, the model's calls
and the objective read `model.heads[name]`. Objectives with the same head under the same name share it. A recipe may
bring a class of its own: it derives from `Head` and nothing else needs to know of it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.errors import UserError
from jaxlm.models import parameters
from jaxlm.models.dense import dense
from jaxlm.models.dropout import dropout
from jaxlm.models.mlp import Activation, activation


@dataclasses.dataclass(kw_only=True, frozen=True)
class Head:
    """A head of some kind; its fields are what changes its parameters. Two that are equal are one head."""

    training_alone: ClassVar[bool] = False  # whether nobody reads it in the model that was trained

    def check(self, config: Any, where: str, who: str) -> None:
        """UserError when a model of this config (at key path `where`) cannot carry it; `who` wants it."""

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """The module with fresh parameters; `body` is the model that it stands on, complete but for its heads."""
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True, frozen=True)
class Tokens(Head):
    """What stands between features and the tied decoder; every family has its own (`token_head` of its config)."""

    def check(self, config: Any, where: str, who: str) -> None:
        """Families without one predict tokens with their table, or not at all."""
        if not hasattr(config, "token_head"):
            raise UserError(
                f"{where}={type(config).__name__}: it has no head that predicts tokens, as {who} does. Fix: another "
                "family, such as Bert or ModernBert."
            )

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take x_BMD."""
        return config.token_head(rngs, dtype)


@dataclasses.dataclass(kw_only=True, frozen=True)
class Pooler(Head):
    """Dense and tanh on the first token of an item, as BERT has it: also SimCSE's MLP layer."""

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take x_BCD."""
        return Activated(config, rngs, dtype, jnp.tanh)


@dataclasses.dataclass(kw_only=True, frozen=True)
class Classify(Head):
    """One dense layer to logits of classes, float32."""

    classes: int

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take features, pooled or not, with the width last."""
        return _Classes(config, rngs, self.classes)


@dataclasses.dataclass(kw_only=True, frozen=True)
class ClassifyText(Classify):
    """Classes of a text as transformers' ...ForSequenceClassification: behind the pooler (see `of_texts`), or behind a
    layer of its own where the family has one in its place (`class_layer` of its config); of a decoder without bias."""

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Read through `classify`."""
        layer = getattr(config, "class_layer", None)
        if config.kind == "decoder":
            return _Scores(config, rngs, self.classes)
        return _Classes(config, rngs, self.classes, layer and layer(rngs, dtype))


@dataclasses.dataclass(kw_only=True, frozen=True)
class Tag(Classify):
    """Classes of every token as transformers' ...ForTokenClassification: dense (ModernBERT: behind its `tag_layer`)."""

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take x_BTD, and a key for dropout."""
        layer = getattr(config, "tag_layer", None)
        return _Classes(config, rngs, self.classes, layer and layer(rngs, dtype))


@dataclasses.dataclass(kw_only=True, frozen=True)
class Span(Head):
    """Whether a token is the first, and the last, of an answer, as transformers' ...ForQuestionAnswering: dense to two
    numbers (ModernBERT: behind its `tag_layer`). Without dropout, which of these DistilBERT alone has."""

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take x_BTD."""
        return Tag(classes=2).module(config, rngs, dtype, body)


def of_texts(config: Any, classes: int) -> dict[str, Head]:
    """The heads that give a text one of so many classes, with the pooler where the family has it there."""
    pooled = config.kind == "encoder" and not hasattr(config, "class_layer")
    pooler: dict[str, Head] = {"pooler": Pooler()} if pooled else {}
    return pooler | {"classes": ClassifyText(classes=classes)}


@dataclasses.dataclass(kw_only=True, frozen=True)
class Choose(Head):
    """One number for a text as transformers' ...ForMultipleChoice: behind the pooler (see `of_choices`), or what the
    family has for classes in its place."""

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Read through `classify`."""
        layer = None if _pools_choices(config) else getattr(config, "class_layer", None)
        return _Classes(config, rngs, 1, layer and layer(rngs, dtype))


def of_choices(config: Any) -> dict[str, Head]:
    """The heads that give a text one number, with the pooler where the family has it there."""
    pooler: dict[str, Head] = {"pooler": Pooler()} if _pools_choices(config) else {}
    return pooler | {"choices": Choose()}


def _pools_choices(config: Any) -> bool:
    return config.kind == "encoder" and getattr(config, "choices_pooled", not hasattr(config, "class_layer"))


@dataclasses.dataclass(kw_only=True, frozen=True)
class Relate(Classify):
    """Dense on two features, one behind the other, to logits of classes, float32."""

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take x_BCD of twice the width, and a key for dropout."""
        return _Classes(config, rngs, self.classes, width=2 * config.hidden)


@dataclasses.dataclass(kw_only=True, frozen=True)
class Transitions(Head):
    """What two tags that follow each other, and the first and last of a text, add to its score."""

    tags: int

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take nothing."""
        return _Transitions(self.tags)


@dataclasses.dataclass(kw_only=True, frozen=True)
class Detect(Head):
    """Dense, activation, and one logit for every token: ELECTRA's "replaced"."""

    def module(self, config: Any, rngs: nnx.Rngs, dtype: jnp.dtype, body: Any) -> nnx.Module:
        """Calls take x_BTD."""
        return _Detector(config, rngs, dtype)


class Headed(nnx.Module):
    """Calls of models that carry heads; `build` sets them."""

    heads: Mapping[str, Any]

    def pool(self, x_BCD: jax.Array) -> jax.Array:
        """Features of the items' first tokens through the pooler."""
        return self.heads["pooler"](x_BCD)

    def classify_pair(self, x_BCD: jax.Array, question: str) -> jax.Array:
        """Features of the items' first tokens -> logits_BC2, float32, of the head named `question`."""
        return self.heads[question](self.pool(x_BCD))

    def classify(self, x_BCD: jax.Array, name: str = "classes", key: jax.Array | None = None) -> jax.Array:
        """Features of items -> logits, float32, of the head of that name, behind the pooler if there is one."""
        head = self.heads[name]
        alone = hasattr(head, "layer") or "pooler" not in self.heads
        return head(x_BCD if alone else self.pool(x_BCD), key)


class Dense(nnx.Module):
    """A dense layer with bias between two widths."""

    def __init__(self, c: Any, rngs: nnx.Rngs, width: int, result: int, dtype: jnp.dtype):
        self.dtype = dtype
        self.w = parameters.weight(rngs, (width, result), ("embed", None), _scale(c))
        self.b = parameters.zeros((result,), ("embed",))

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        w_DE, b_E = self.w[...].astype(self.dtype), self.b[...].astype(self.dtype)
        return dense(x_BTD, w_DE) + b_E


class Activated(Dense):
    """Dense to the same width, and an activation."""

    def __init__(
        self, c: Any, rngs: nnx.Rngs, dtype: jnp.dtype, activation: Callable[[jax.Array], jax.Array]
    ):
        super().__init__(c, rngs, c.hidden, c.hidden, dtype)
        self.activation = activation

    def __call__(self, x_BCD: jax.Array) -> jax.Array:
        return self.activation(super().__call__(x_BCD))


class _Classes(nnx.Module):
    """A layer of its own, if there is one; dropout, at the model's rate; dense to classes."""

    def __init__(self, c: Any, rngs: nnx.Rngs, classes: int, layer: nnx.Module | None = None, width: int = 0):
        self.dropout = getattr(c, "dropout", 0.0)
        if layer is not None:
            self.layer = layer
        self.w = parameters.weight(rngs, (width or c.hidden, classes), ("embed", None), _scale(c))
        self.b = parameters.zeros((classes,), (None,))

    def __call__(self, x_BCD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x_BCD = self.layer(x_BCD) if hasattr(self, "layer") else x_BCD
        return dropout(x_BCD.astype(jnp.float32), self.dropout, key) @ self.w[...] + self.b[...]


class _Scores(nnx.Module):
    """Dense to classes, without bias and without dropout."""

    def __init__(self, c: Any, rngs: nnx.Rngs, classes: int):
        self.w = parameters.weight(rngs, (c.hidden, classes), ("embed", None), _scale(c))

    def __call__(self, x_BCD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return x_BCD.astype(jnp.float32) @ self.w[...]


class _Transitions(nnx.Module):
    """float32, 0 at first."""

    def __init__(self, tags: int):
        self.between = parameters.zeros((tags, tags), (None, None))
        self.first, self.last = (parameters.zeros((tags,), (None,)) for _ in range(2))

    def __call__(self) -> dict[str, jax.Array]:
        return {name: getattr(self, name)[...] for name in ("between", "first", "last")}


def _scale(c: Any) -> float:
    """Standard deviation of a head's initial weights; BERT's where a family says it otherwise (T5)."""
    return getattr(c, "init_scale", 0.02)


class _Detector(nnx.Module):
    def __init__(self, c: Any, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.activation: Activation = c.activation
        self.transform = Dense(c, rngs, c.hidden, c.hidden, dtype)
        self.w = parameters.weight(rngs, (c.hidden, 1), ("embed", None), c.init_scale)
        self.b = parameters.zeros((1,), (None,))

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        h_BTD = activation(self.activation)(self.transform(x_BTD))
        w_D1 = self.w[...].astype(h_BTD.dtype)
        return dense(h_BTD, w_D1, result=jnp.dtype("float32"))[..., 0] + self.b[...]
