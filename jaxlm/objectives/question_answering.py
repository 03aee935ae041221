"""Answers that are a part of a text: the first and the last token of it. In: windows of contexts behind their question.

Out: one loss. A window in which the answer does not stand whole asks for its first token ([CLS]) instead; every window
is judged by its own tokens and sees no other, so packing several into a row changes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Kind, Loss, Pair, Row, Shown, Vocabulary
from jaxlm.data.corpus.columns import Answers
from jaxlm.data.rows import windows
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head, Span
from jaxlm.objectives import reading, scores
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.labelled import check_number
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Predictions

_NEVER = -1e9


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerTargets:
    """First and last token of the answer of every window of a row."""

    places_BC2: Array  # int32: places in the row, of the window's first token where there is no answer
    weights_BC: Array  # float32: 1 where a window is real, else 0
    start_B: Array | None = None  # int32: what an encoder-decoder's decoder begins with, where it may be one

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        real = np.flatnonzero(self.weights_BC[b] > 0).tolist()
        return Shown(notes={c + 1: "answer {} to {}".format(*self.places_BC2[b, c].tolist()) for c in real})


@dataclasses.dataclass(kw_only=True)
class QuestionAnswering(Objective):
    """As Devlin et al., 1810.04805, sections 4.2 and 4.3, fine-tune BERT on SQuAD; the mean of two cross-entropies."""

    column: str  # of the corpus, in data.columns: an Answers
    no_answer: bool  # whether a question may have none, as in SQuAD 2.0
    max_tokens: int  # of a window, special tokens included: 384 is published
    overlap: int  # tokens of the context that a window shares with the next (transformers' doc_stride: 128)
    question_tokens: int  # of a question at most; its end is cut off (published: 64)
    items_per_row: int  # windows at most; 1 is one a row
    answer_tokens: int = 30  # of an answer that is given, at most
    # Said is "no answer" where its score is above the best answer's by more than this; None: what was best for f1 on
    # held-out questions at the checkpoint (the evaluator TaskMetrics), else 0
    threshold: float | None = None

    @property
    def needs_sentences(self) -> bool:
        """Where the question ends."""
        return True

    @property
    def takes(self) -> tuple[Kind, ...]:
        """What reads the whole context before it says where the answer is."""
        return ("encoder", "encoder_decoder")

    def cut(self, vocabulary: Vocabulary) -> windows.Cut:
        """How a record becomes windows."""
        return windows.Cut(
            tokens=self.max_tokens,
            overlap=self.overlap,
            question_tokens=self.question_tokens,
            separators=vocabulary.overhead(1, 2) - 2,
        )

    def validate(self, where: str) -> None:
        """UserError for numbers that make no windows."""
        for name in ("max_tokens", "question_tokens", "items_per_row", "answer_tokens"):
            check_number(self, where, name, 2**16 - 1)

    def check(self, vocabulary: Vocabulary) -> None:
        """Windows end with [SEP] or eos, and hold some of the context behind the longest question."""
        vocabulary.require_end(type(self).__name__)
        special = self.cut(vocabulary).special
        room = self.max_tokens - self.question_tokens - special
        if not 0 <= self.overlap < room:
            raise UserError(
                f"config.objective.overlap={self.overlap}: of max_tokens={self.max_tokens} the longest question "
                f"({self.question_tokens}) and {special} special tokens leave {max(room, 0)} for the context; "
                f"allowed is 0 to one less. Fix: --config.objective.overlap={max(room // 3, 0)}, or longer windows."
            )

    def check_columns(self, columns: Sequence[Any]) -> None:
        """The column must be one of answers."""
        if not any(isinstance(one, Answers) and one.field == self.column for one in columns):
            names = ", ".join(f'{type(one).__name__} "{one.field}"' for one in columns) or "none"
            raise UserError(
                f'config.objective.column="{self.column}": data.columns has no such Answers (it has {names}). Fix: '
                f"\"--config.data.columns=(Answers(field={self.column!r}, text='context'),)\"."
            )

    def max_items(self, length: int) -> int:
        """As configured."""
        return self.items_per_row

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Two numbers for every token, as transformers' ...ForQuestionAnswering has them in every family."""
        return {"span": Span()}

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Windows over every context."""
        if self.max_tokens > asked.length:
            raise UserError(
                f"{type(self).__name__}.max_tokens={self.max_tokens} does not fit a row of {asked.length}. Fix: "
                f"--config.objective.max_tokens={asked.length}, or longer rows."
            )
        none = self.no_answer or not asked.train
        return windows.make_windows(
            shards, vocabulary, self.cut(vocabulary), column=self.column, none=none, cache=asked.cache
        )

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """The row as it is; nothing is drawn."""
        within_C2 = np.stack([row.of_items(windows.START), row.of_items(windows.END)], axis=1)
        real_C = within_C2[:, 0] >= 0
        places_C2 = row.first_C[:, None] + np.maximum(within_C2, 0)
        return Batch(
            tokens_BT=row.tokens_T,
            segments_BT=row.segments_T,
            positions_BT=row.positions_T,
            types_BT=row.texts_T,
            targets=AnswerTargets(
                places_BC2=places_C2.astype(np.int32),
                weights_BC=real_C.astype(np.float32),
                start_B=reading.start(vocabulary),
            ),
        )

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of windows."""
        return {"span": scores.count(batch.targets.weights_BC)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`span`: logits_BT2 of every token, to be the first and the last."""
        encoded = reading.encode(model, batch, key, batch.targets.start_B)
        return Predictions.of(encoded, span=model.heads["span"](encoded.x_BTD))

    def towards(
        self, said: Predictions, taught: Predictions, batch: Batch, apart: Divergence
    ) -> dict[str, Pair]:
        """Of every window's first and last token, the mean of both."""
        ends = (jnp.moveaxis(_of_windows(one, batch), -1, -2) for one in (said, taught))
        nats_BC, weights_BC = apart.of_classes(*ends).mean(axis=-1), batch.targets.weights_BC
        return {"span": (jnp.where(weights_BC > 0, nats_BC * weights_BC, 0.0).sum(), weights_BC.sum())}

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `span`; measures `span_loss` (nats) and `span_accuracy` (both ends of a window are right)."""
        asked = batch.targets
        weights_BC, logits_BCT2 = asked.weights_BC, _of_windows(predictions, batch)
        picked_BC2 = jnp.take_along_axis(logits_BCT2, asked.places_BC2[:, :, None], axis=2)[:, :, 0]
        nats_BC = (jax.nn.logsumexp(logits_BCT2, axis=2) - picked_BC2).mean(axis=-1)
        right_BC = (jnp.argmax(logits_BCT2, axis=2) == asked.places_BC2).all(axis=-1)
        total = lambda values_BC: jnp.where(weights_BC > 0, values_BC, 0.0).sum()
        weight = scores.count(weights_BC)
        nats, right = (total(nats_BC), weight), (total(right_BC.astype(jnp.float32)), weight)
        return Loss({"span": nats}, {"span_loss": nats, "span_accuracy": right})


def _of_windows(predictions: Predictions, batch: Batch) -> Array:
    """logits_BCT2, float32: of every window alone."""
    windows_C = jnp.arange(1, batch.targets.weights_BC.shape[1] + 1)
    own_BCT1 = (batch.segments_BT[:, None, :] == windows_C[:, None])[..., None]
    return jnp.where(own_BCT1, predictions["span"].astype(jnp.float32)[:, None], _NEVER)
