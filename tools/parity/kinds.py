"""What is trained in a comparison. In: a model config. Out: a batch, and loss and outputs of both sides on it.

A kind has `heads`, the names of those it reads, `batch(vocab_size)`, `ours(module, batch)` and `theirs(model, batch)`;
both return (loss, outputs by name), where 'logits' are over all positions of the main row. Numbers of tokens are odd
and pairwise different.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxlm.batch import Batch
from jaxlm.models.masks import at_places
from jaxlm.objectives.sentence_pairs import PairTargets
from jaxlm.objectives.targets import ItemTargets, TokenTargets

ROWS, LENGTH, SOURCE = 3, 13, 11
LENGTHS, SOURCE_LENGTHS = (13, 7, 10), (5, 11, 9)
_LABELS = {"nsp": "next_sentence_label", "sop": "sentence_order_label"}  # transformers'


class Masked:
    """Masked LM (labels at some positions), and a question about the pair where `pair` names its head."""

    def __init__(self, *, types: int = 2, pair: str = "") -> None:
        self.types, self.pair = types, pair
        self.heads = ("tokens", "pooler", pair) if pair else ("tokens",)

    def batch(self, vocab_size: int) -> Batch:
        """Rows of one item with padding behind; each row predicts what stands at three positions."""
        rng, real, row = _row(vocab_size, LENGTHS)
        second = real & (np.arange(LENGTH) > 4) if self.types > 1 else np.zeros_like(real)
        return dataclasses.replace(
            row,
            types_BT=second.astype(np.int32),
            targets=PairTargets(
                tokens=TokenTargets(
                    places_BM=np.array([[1, 5, 11], [2, 3, 6], [4, 8, 9]], np.int32),
                    ids_BM=rng.integers(1, vocab_size, (ROWS, 3)).astype(np.int32),
                    weights_BM=np.ones((ROWS, 3), np.float32),
                ),
                items=ItemTargets(
                    first_BC=np.zeros((ROWS, 1), np.int32),
                    labels_BC=np.array([[0], [1], [1]], np.int32),
                    weights_BC=np.ones((ROWS, 1), np.float32),
                ),
            ),
        )

    def ours(self, module: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """Mean cross-entropy of the targets; of the pair questions too, if there are any."""
        x_BTD, asked = module.encode(batch, None).x_BTD, batch.targets
        words_BMD = at_places(x_BTD, asked.tokens.places_BM)
        loss = _mean(module.predict_tokens(words_BMD), asked.tokens.ids_BM)
        outputs = {"logits": module.predict_tokens(x_BTD)}
        if self.pair:
            outputs["pair"] = module.classify_pair(at_places(x_BTD, asked.items.first_BC), self.pair)
            loss = loss + _mean(outputs["pair"], asked.items.labels_BC)
        return loss, outputs

    def theirs(self, model: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """The model's own loss."""
        labels = np.full(batch.tokens_BT.shape, -100)
        np.put_along_axis(labels, batch.targets.tokens.places_BM, batch.targets.tokens.ids_BM, 1)
        arguments = _inputs(batch) | {"labels": torch.tensor(labels).long()}
        if self.types > 1:
            arguments["token_type_ids"] = torch.tensor(batch.types_BT).long()
        if self.pair:
            arguments[_LABELS[self.pair]] = torch.tensor(batch.targets.items.labels_BC[:, 0]).long()
        out = model(**arguments)
        if not self.pair:
            return out.loss, {"logits": out.logits}
        pair = out.seq_relationship_logits if hasattr(out, "seq_relationship_logits") else out.sop_logits
        return out.loss, {"logits": out.prediction_logits, "pair": pair[:, None]}


class Causal:
    """Next-token prediction; every token of an item but its first is a target."""

    heads: tuple[str, ...] = ()

    def batch(self, vocab_size: int) -> Batch:
        """Rows of one item with padding behind."""
        _, real, row = _row(vocab_size, LENGTHS)
        weights = (real & np.roll(real, -1, 1)).astype(np.float32)
        weights[:, -1] = 0
        targets = np.where(weights > 0, np.roll(row.tokens_BT, -1, 1), 0).astype(np.int32)
        return dataclasses.replace(row, targets=TokenTargets(ids_BM=targets, weights_BM=weights))

    def ours(self, module: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """Mean cross-entropy over all targets of the batch, and the terms of the model itself."""
        encoded = module.encode(batch, None)
        logits = module.predict_tokens(encoded.x_BTD)
        loss = _mean(logits, batch.targets.ids_BM, batch.targets.weights_BM)
        return loss + sum(total / weight for total, weight in encoded.terms.values()), {"logits": logits}

    def theirs(self, model: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """The model's own loss: it shifts the labels itself."""
        labels = np.where(batch.segments_BT > 0, batch.tokens_BT, -100)
        out = model(**_inputs(batch), labels=torch.tensor(labels).long())
        return out.loss, {"logits": out.logits}


class Seq2Seq:
    """A target row predicted from a source row."""

    heads: tuple[str, ...] = ()

    def batch(self, vocab_size: int) -> Batch:
        """Rows of one item with padding behind, on both sides."""
        rng, real, row = _row(vocab_size, LENGTHS)
        source = np.arange(SOURCE)[None] < np.array(SOURCE_LENGTHS)[:, None]
        return dataclasses.replace(
            row,
            source_tokens_BS=np.where(source, rng.integers(1, vocab_size, source.shape), 0).astype(np.int32),
            source_segments_BS=source.astype(np.int32),
            source_positions_BS=np.tile(np.arange(SOURCE, dtype=np.int32), (ROWS, 1)),
            targets=TokenTargets(
                ids_BM=np.where(real, rng.integers(1, vocab_size, real.shape), 0).astype(np.int32),
                weights_BM=real.astype(np.float32),
            ),
        )

    ours = Causal.ours

    def theirs(self, model: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """The model's own loss, with our decoder inputs."""
        labels = np.where(batch.targets.weights_BM > 0, batch.targets.ids_BM, -100)
        out = model(
            input_ids=torch.tensor(batch.source_tokens_BS).long(),
            attention_mask=torch.tensor(batch.source_segments_BS).long(),
            decoder_input_ids=torch.tensor(batch.tokens_BT).long(),
            decoder_attention_mask=torch.tensor(batch.segments_BT).long(),
            labels=torch.tensor(labels).long(),
        )
        return out.loss, {"logits": out.logits}


def packed(batch: Batch) -> Batch:
    """All items in one row, one after another."""
    real, lengths = batch.segments_BT > 0, (batch.segments_BT > 0).sum(1)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    fields = {name: getattr(batch, name) for name in ("tokens_BT", "positions_BT", "types_BT")}
    fields = {name: None if x is None else x[real][None] for name, x in fields.items()}
    fields["segments_BT"] = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)[None]
    if batch.source_tokens_BS is not None:
        source, sizes = batch.source_segments_BS > 0, (batch.source_segments_BS > 0).sum(1)
        fields["source_tokens_BS"] = batch.source_tokens_BS[source][None]
        fields["source_positions_BS"] = batch.source_positions_BS[source][None]
        fields["source_segments_BS"] = np.repeat(np.arange(1, len(sizes) + 1, dtype=np.int32), sizes)[None]
    return Batch(**fields, targets=_packed_targets(batch.targets, real, starts))


def _packed_targets(asked: Any, real: np.ndarray, starts: np.ndarray) -> Any:
    moved = lambda places: (places + starts[:, None]).astype(np.int32).reshape(1, -1)
    if isinstance(asked, TokenTargets):  # in place
        return jax.tree.map(lambda x: x[real][None], asked)
    flat = jax.tree.map(lambda x: x.reshape(1, -1), asked)
    return PairTargets(
        tokens=dataclasses.replace(flat.tokens, places_BM=moved(asked.tokens.places_BM)),
        items=dataclasses.replace(flat.items, first_BC=moved(asked.items.first_BC)),
    )


def _row(vocab_size: int, lengths: tuple[int, ...]) -> tuple[np.random.Generator, np.ndarray, Batch]:
    rng = np.random.default_rng(1)
    real = np.arange(LENGTH)[None] < np.array(lengths)[:, None]
    tokens = np.where(real, rng.integers(1, vocab_size, real.shape), 0).astype(np.int32)
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
    return rng, real, Batch(tokens_BT=tokens, segments_BT=real.astype(np.int32), positions_BT=positions)


def _inputs(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": torch.tensor(batch.tokens_BT).long(),
        "attention_mask": torch.tensor(batch.segments_BT).long(),
    }


def _mean(logits: Any, targets: Any, weights: Any = 1.0) -> Any:
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    weights = jnp.broadcast_to(weights, nats.shape)
    return (nats * weights).sum() / weights.sum()
