"""What all text-to-text objectives share: bare passages in, targets in place out, one cross-entropy.

In: rows of passages (pieces of documents as bare tokens). Out: rows of the decoder whose every position has its target
in place (weight 0 where it has none), and for an encoder-decoder the source row beside it. Guaranteed: a segment of the
source has the number of its segment in the decoder's row, and nothing of one segment depends on another.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jaxlm.batch import Array, Batch, Kind, Loss, Row, Vocabulary
from jaxlm.data.rows.documents import FOLLOWING, Passages
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.objectives import scores
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.targets import TokenTargets

Start = Literal["pad", "bos", "eos"]


@dataclasses.dataclass(kw_only=True)
class NextTokens(Objective):
    """One cross-entropy over the tokens that the `targets` of a batch ask for.

    Published: z_loss 1e-4 (PaLM, T5) or 0 (GPT, BART, Llama); label_smoothing 0.1 (Transformer) or 0.
    """

    token_term = "lm"

    z_loss: float  # coefficient of log(Z)^2, which keeps logits from drifting; 0: off
    label_smoothing: float  # share of the target's probability that is spread over the vocabulary; 0: off
    chunk: int = 128  # targets per row whose logits exist together; 0: all. Changes memory, not results

    def validate(self, where: str) -> None:
        """Checks the loss; subclasses check their own fields and call this."""
        check_loss(self, where)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of targets in the batch."""
        return {"lm": scores.count(batch.targets.weights_BM)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`lm`: logits at the targets."""
        encoded, lm = scores.encode_tokens(model, batch, key, batch.targets)
        return Predictions.of(encoded, lm=lm)

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `lm`; measures `lm_loss` (nats per token), `lm_accuracy`, and with z-loss `lm_z`."""
        settings = {"chunk": self.chunk, "z_loss": self.z_loss, "label_smoothing": self.label_smoothing}
        return scores.of_tokens(predictions["lm"], batch.targets.ids_BM, "lm", **settings)


@dataclasses.dataclass(kw_only=True)
class Generative(NextTokens):
    """Every position of a row of passages is a target, unless `prepare` says otherwise."""

    @property
    def trains(self) -> Kind:
        """An encoder-decoder."""
        return "encoder_decoder"

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Bare pieces of documents; `overhead` tokens are added to each, at most."""
        return Passages(shards, vocabulary, self.overhead)

    @property
    def overhead(self) -> int:
        """Special tokens that `prepare` adds to a piece, at most."""
        return 0


def pieces(row: Row) -> list[tuple[np.ndarray, int]]:
    """(tokens, the id that follows) of every piece of a row of passages, in order."""
    number = int(row.segments_T.max(initial=0))
    used = int((row.segments_T > 0).sum())
    bounds = [*row.first_C[:number].tolist(), used]
    following = row.of_items(FOLLOWING).tolist()
    return [(row.tokens_T[bounds[c] : bounds[c + 1]], following[c]) for c in range(number)]


def lay_out(parts: Sequence[np.ndarray], length: int, pad: int) -> dict[str, np.ndarray]:
    """`tokens`, `segments`, `positions` of one row that holds the parts one after another; empty parts are refused."""
    tokens = np.full(length, pad, np.int32)
    segments, positions = np.zeros(length, np.int32), np.zeros(length, np.int32)
    at = 0
    for number, part in enumerate(parts, 1):
        span = slice(at, at + len(part))
        if not len(part) or span.stop > length:
            raise AssertionError(f"segment {number} of {len(part)} tokens at {at} in a row of {length}")
        tokens[span], segments[span], positions[span] = part, number, np.arange(len(part))
        at = span.stop
    return {"tokens": tokens, "segments": segments, "positions": positions}


def in_place(parts: Sequence[tuple[np.ndarray, np.ndarray]], length: int, pad: int) -> Batch:
    """A decoder's row from (inputs, targets) of every segment; a target of -1 is not predicted."""
    row = lay_out([inputs for inputs, _ in parts], length, pad)
    wanted = np.full(length, -1, np.int32)
    wanted[: sum(len(targets) for _, targets in parts)] = np.concatenate(
        [np.empty(0, np.int32), *(targets for _, targets in parts)]
    )
    targets = TokenTargets(ids_BM=np.maximum(wanted, 0), weights_BM=(wanted >= 0).astype(np.float32))
    return Batch(
        tokens_BT=row["tokens"], segments_BT=row["segments"], positions_BT=row["positions"], targets=targets
    )


def shifted(targets: np.ndarray, start: int) -> np.ndarray:
    """The decoder's input for these targets: everything one later, `start` first."""
    return np.concatenate([[start], targets[:-1]]).astype(np.int32)


def source_and_target(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], lengths: tuple[int, int], start: int, pad: int
) -> Batch:
    """The two rows of an encoder-decoder from (source, target) of every segment; `lengths` of the rows."""
    source = lay_out([source for source, _ in pairs], lengths[0], pad)
    row = in_place([(shifted(target, start), target) for _, target in pairs], lengths[1], pad)
    return dataclasses.replace(row, **{f"source_{name}_BS": values for name, values in source.items()})


def source_then_target(pairs: Sequence[tuple[np.ndarray, np.ndarray]], length: int, pad: int) -> Batch:
    """The row of a decoder that sees the whole source of a segment (`prefix_BT`) and predicts its target."""
    parts, prefixes = [], []
    for source, target in pairs:
        silent = np.full(len(source) - 1, -1, np.int32)  # nothing before the source's last token predicts
        parts.append((np.concatenate([source, target[:-1]]), np.concatenate([silent, target])))
        prefixes += [np.ones(len(source), np.int32), np.zeros(len(target) - 1, np.int32)]
    prefix = np.zeros(length, np.int32)
    known = np.concatenate([np.empty(0, np.int32), *prefixes])
    prefix[: len(known)] = known
    return dataclasses.replace(in_place(parts, length, pad), prefix_BT=prefix)


def start_token(start: Start, vocabulary: Vocabulary) -> int:
    """The id that a decoder starts from."""
    return int(getattr(vocabulary, start))


def check_loss(config: Any, where: str) -> None:
    """UserError for coefficients of the loss that cannot work."""
    share(config, where, "z_loss", low=0.0, high=1.0, published="1e-4, or 0 for none")
    share(config, where, "label_smoothing", low=0.0, high=0.99, published="0.1, or 0 for none")
    check_chunk(config, where)


def check_chunk(config: Any, where: str) -> None:
    """UserError for a negative number of positions."""
    if config.chunk < 0:
        raise UserError(f"{where}.chunk={config.chunk}: allowed is 0 (everything at once) or more.")


def share(config: Any, where: str, name: str, *, low: float = 0.0, high: float = 1.0, published: str) -> None:
    """UserError unless low <= config.name <= high; NaN is refused."""
    if not low <= getattr(config, name) <= high:
        raise UserError(
            f"{where}.{name}={getattr(config, name)}: allowed is {low:g} to {high:g} (published: {published})."
        )
