"""What a model computes for those without jaxlm. In: a model that was read. Out: functions of named arrays, by name.

They are those of `infer` and `objectives`, so that their numbers are theirs.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch
from jaxlm.exchange.stored import Stored
from jaxlm.export import generation
from jaxlm.export.sizes import Sizes, ids
from jaxlm.infer import embed, relate
from jaxlm.infer.loaded import Loaded
from jaxlm.models.heads import Classify, Head
from jaxlm.objectives import labelled, reading
from jaxlm.objectives.embeddings import Pooling
from jaxlm.objectives.frame import Frame
from jaxlm.objectives.targets import ItemTargets

Arrays = Mapping[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Function:
    """One of them. A weight is never among the inputs: the module is bound to them."""

    does: str  # for people
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    compute: Callable[[Any, Arrays], Arrays]  # of the module and the inputs
    # Whether it reads pairs of texts: the type of a token is then 0, or 1 behind the first token that ends a text
    pairs: bool = False


def of(ready: Loaded, sizes: Sizes, pooling: Pooling | None, frame: Frame | None) -> dict[str, Function]:
    """All that the model has; `pooling` None: it embeds nothing; `frame` None: it writes nothing."""
    found = _of_rows(ready, sizes, pooling)
    if frame is not None:
        parts = generation.functions(ready.model, sizes, prefix=frame.prefix)
        found |= {
            name: Function(does=does, inputs=inputs, compute=compute)
            for name, (does, inputs, compute) in parts.items()
        }
    return found


def left_out(stored: Stored) -> list[str]:
    """Heads that no function reads."""
    return [name for name, head in stored.heads.items() if _of_head(name, head) is None]


def _of_rows(ready: Loaded, sizes: Sizes, pooling: Pooling | None) -> dict[str, Function]:
    """What reads whole rows: padded behind, `mask` 1 where there is a token."""
    row = ids(*sizes.symbols("BT"))
    inputs = {"tokens": row, "mask": row, "types": row}
    start, vocab = int(reading.start(ready.tokenizer.vocabulary)), ready.model.config.vocab_size
    made: dict[str, tuple[str, Callable[[Any, Batch], Arrays]]] = {
        "features": ("features [B, T, D] of every token, float32", _features)
    }
    if pooling is not None:
        vectors = lambda model, batch: {"embeddings": embed.encode(model, batch, pooling=pooling)}
        made["embeddings"] = (f"a vector [B, D] of length 1 for every row, pooling {pooling}", vectors)
    kind = ready.model.config.kind
    if kind == "decoder" or (kind == "encoder" and "tokens" in ready.stored.heads):
        logits = lambda model, batch: {
            "logits": model.predict_tokens(model.encode(batch, None).x_BTD)[..., :vocab]
        }
        what = "that follows" if kind == "decoder" else "at"
        made["logits"] = (f"logits [B, T, V] of the token {what} each place", logits)
    for name, head in ready.stored.heads.items():
        if compute := _of_head(name, head):
            made[name] = (f"what the head {name!r} says", compute)
    return {
        name: Function(
            does=does,
            inputs={} if name == "transitions" else inputs,
            compute=_over(compute, start),
            pairs=name in _PAIRS,
        )
        for name, (does, compute) in made.items()
        if name != "tokens" and name != "pooler"
    }


def _over(compute: Callable[[Any, Batch], Arrays], start: int) -> Callable[[Any, Arrays], Arrays]:
    """The same of named inputs; `start`: what a decoder beside its encoder begins with."""

    def of_inputs(model: Any, given: Arrays) -> Arrays:
        return compute(model, _batch(given, start) if given else None)  # type: ignore[arg-type]

    return of_inputs


def _batch(given: Arrays, start: int) -> Batch:
    tokens_BT, mask_BT = given["tokens"], given["mask"]
    rows, length = tokens_BT.shape
    zeros = jnp.zeros((rows, 1), jnp.int32)
    return Batch(
        tokens_BT=tokens_BT,
        segments_BT=mask_BT,
        positions_BT=jnp.arange(length, dtype=jnp.int32)[None] * mask_BT,
        types_BT=given["types"],
        targets=ItemTargets(
            first_BC=zeros,
            labels_BC=zeros,
            weights_BC=zeros.astype(jnp.float32),
            start_B=jnp.full((rows,), start, jnp.int32),
        ),
    )


def _features(model: Any, batch: Batch) -> Arrays:
    return {"features": reading.encode(model, batch, None, batch.targets.start_B).x_BTD.astype(jnp.float32)}


def _judged(pooling: reading.Pooling) -> Callable[[Any, Batch], Arrays]:
    return lambda model, batch: {
        "logits": labelled.judge(model, batch, None, pooling)["classes"]()[:, 0],
    }


def _first(name: str) -> Callable[[Any, Batch], Arrays]:
    """A head that reads one vector of a row, where its family has it."""

    def compute(model: Any, batch: Batch) -> Arrays:
        asked = batch.targets
        _, x_BCD = reading.items(model, batch, None, asked.first_BC, asked.start_B, "own")
        return {"logits": model.classify(x_BCD, name)[:, 0]}

    return compute


def _tags(model: Any, batch: Batch) -> Arrays:
    return {"logits": model.heads["tags"](model.encode(batch, None).x_BTD)}


def _span(model: Any, batch: Batch) -> Arrays:
    x_BTD = reading.encode(model, batch, None, batch.targets.start_B).x_BTD
    return {"logits": model.heads["span"](x_BTD).astype(jnp.float32)}


def _relations(model: Any, batch: Batch) -> Arrays:
    return dict(zip(("as_first", "as_second"), relate.halves(model, batch), strict=True))


def _replaced(model: Any, batch: Batch) -> Arrays:
    return {"logits": model.heads["replaced"](model.encode(batch, None).x_BTD)}


_HEADS: dict[str, Callable[[Any, Batch], Arrays]] = {
    "classes": _judged("own"),
    labelled.OF_MEAN: _judged("mean"),
    "choices": _first("choices"),
    "tags": _tags,
    "transitions": lambda model, _: model.heads["transitions"](),
    "span": _span,
    "relations": _relations,
    "replaced": _replaced,
    "tokens": _features,  # a part of `logits`
    "pooler": _features,  # a part of what is behind it
}
_PAIRS = ("classes", labelled.OF_MEAN, "choices", "span")


def _of_head(name: str, head: Head) -> Callable[[Any, Batch], Arrays] | None:
    if name in _HEADS:
        return _HEADS[name]
    return _first(name) if type(head) is Classify else None  # a question about pairs, behind the pooler
