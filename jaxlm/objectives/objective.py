"""The base of every objective: what the pipeline, the step and the reports ask of one. In: subclasses. Out: defaults.

An objective is a keyword-only dataclass that derives from `Objective`. On the host it says what rows are filled with
(`items`) and fills a batch's row (`prepare`); on the device it puts heads on the model
(`heads`), reads it (`predict`) and judges (`score`);
`frame` says how the model is asked for text. Nothing is registered.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from jaxlm.batch import Array, Batch, Kind, Loss, Pair, Row, Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows import documents
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head
from jaxlm.objectives import scores
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.frame import Frame
from jaxlm.objectives.predictions import Logits, Predictions

_KINDS: dict[Kind, tuple[str, str]] = {  # in words, and families of the kind
    "encoder": ("an encoder", "Bert, Roberta or ModernBert"),
    "decoder": ("a decoder", "Gpt2 or Llama"),
    "encoder_decoder": ("an encoder-decoder", "T5, Bart or Transformer"),
    "pair": ("a generator and a discriminator together", "Electra"),
}


class Objective:
    """Methods without a default raise NotImplementedError; there are no fields here."""

    # Whether the loss of a row depends on the other rows of its batch: no accumulation then.
    whole_batch: ClassVar[bool] = False
    # Whether `loss` is the score of one `predict`; what asks several times, or elsewhere, is no such.
    one_pass: ClassVar[bool] = True
    # Whether `models.values.before(model)` is to be the average of the weights (ema_decay) in training.
    needs_average: ClassVar[bool] = False
    # Whether it compares with a teacher (config.teacher).
    needs_teacher: ClassVar[bool] = False
    # How few labels `missing_labels` may find.
    fewest_labels: ClassVar[int] = 2
    # The term whose targets are tokens, if there is one: it is compared with the unigram baseline.
    token_term: ClassVar[str] = ""

    @property
    def missing_labels(self) -> str:
        """The column of the corpus whose names it must be told as `labels` before its heads are made; "": none."""
        return ""

    # How transformers computes the loss of its head, where its classes do not say it: `problem_type` of config.json.
    problem_type: ClassVar[str] = ""

    @property
    def inner(self) -> "Objective":
        """What is trained in the end, without what stands around it."""
        return self

    @property
    def vectors(self) -> Literal["mean", "cls", "cls_mlp"] | None:
        """How a vector of a text is read off the model in training; None: it learns none."""
        return None

    @property
    def class_names(self) -> Mapping[str, tuple[str, ...]]:
        """What the classes of its heads are called, in order, by name of the head."""
        return {}

    def told(self, labels: tuple[str, ...]) -> "Objective":
        """Itself with its `labels`."""
        return dataclasses.replace(self, labels=labels)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def counted(self, counts: Mapping[str, int]) -> "Objective":
        """Itself with how often each of its labels stands in the training split, where that matters."""
        return self

    @property
    def missing_targets(self) -> bool:
        """Whether the slots of its rows follow from the tokens of the training split.

        Then it has `measured(train, length)`, which gives (itself with their number, a line that says so).
        """
        return False

    def check_view(self, view: Sequence[Any], where: str) -> None:
        """UserError for a view (`config.view`) that lacks what it reads."""

    def check_columns(self, columns: Sequence[Any]) -> None:
        """UserError for columns of the corpus (`data.columns`) that it cannot learn from."""

    @property
    def needs_sentences(self) -> bool:
        """Whether the shards must know where sentences (or the fields of a record) end."""
        return False

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """What rows are filled with: documents, as [CLS] ... [SEP]."""
        return documents.Documents(shards, vocabulary)

    def max_items(self, length: int) -> int:
        """C: how many items may share a row of `length` tokens."""
        return length

    def plan_length(self, row_length: int) -> int:
        """Tokens packed into a row before `prepare`, for rows of `row_length` after it."""
        return row_length

    @property
    def trains(self) -> Kind:
        """The kind of model it trains."""
        return "encoder"

    @property
    def takes(self) -> tuple[Kind, ...]:
        """All kinds of model that it can train."""
        return (self.trains,)

    def heads(self, config: Any) -> Mapping[str, Head]:
        """What it needs on top of the model of this config, by name, in the order in which they are drawn."""
        return {}

    def teacher_heads(self, config: Any) -> Mapping[str, Head]:
        """What a teacher of this config must have on top, by name."""
        return self.heads(config)

    def check_model(self, model: Any, where: str) -> None:
        """UserError when the model (its config, at key path `where`) cannot be trained on this."""
        who, name = type(self).__name__, type(model).__name__
        if model.kind not in self.takes:
            kinds = " or ".join(
                f"{kind}, such as {families}" for kind, families in (_KINDS[one] for one in self.takes)
            )
            raise UserError(f"{where}={name}: {who} here trains {kinds}; {name} is {_KINDS[model.kind][0]}.")
        for head in self.heads(model).values():
            head.check(model, where, who)

    def check_batch(self, batch_size: int, accumulate: int, where: str) -> None:
        """UserError when batches of this size, in that many micro-batches, cannot be trained on."""
        if self.whole_batch and accumulate > 1:
            raise UserError(
                f"{where}.accumulate={accumulate}: the loss of {type(self).__name__} compares all items of a batch "
                f"with each other, so micro-batches would train on something else. Fix: --{where}.accumulate=1; make "
                f"room with --{where}.model.remat=block or more devices."
            )

    def check(self, vocabulary: Vocabulary) -> None:
        """UserError when the tokenizer lacks a special token that the objective needs."""

    def check_length(self, row_length: int, vocabulary: Vocabulary, where: str) -> None:
        """UserError when some row of that length (at key path `where`) could not be prepared with this vocabulary."""

    def fit(self, shards: Any, vocabulary: Vocabulary, cache: Cache | None) -> "Objective":
        """The objective with what it learns from the training split; most learn nothing."""
        return self

    def slots(self, row_length: int, train: bool) -> int:
        """M, the slots for targets of one row; `row_length` is that of the row that `prepare` gets."""
        return row_length

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """One row of a batch, without the leading B. All draws come from `rng`."""
        raise NotImplementedError

    def weights(self, batch: Batch) -> dict[str, Array]:
        """What every term of the loss weighs over this batch, from the data alone."""
        raise NotImplementedError

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """What the model says of the batch, nothing reduced; key None: evaluation, without dropout."""
        raise NotImplementedError

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """The terms to minimise and the measures to report."""
        raise NotImplementedError

    def apart(self, one: Predictions, other: Predictions) -> dict[str, Pair]:
        """How far two passes over one batch are from each other, by output: of classes the symmetric divergence."""
        pairs = ((name, a, other[name]) for name, a in one.outputs.items() if isinstance(a, Logits))
        return {name: scores.divergence(a(), b(), a.weights_BM) for name, a, b in pairs}

    def towards(
        self, said: Predictions, taught: Predictions, batch: Batch, apart: Divergence
    ) -> dict[str, Pair]:
        """How far what a student says is from what its teacher says, by term: of classes `apart` at every slot.

        In chunks where the objective has logits in chunks. {}: it has nothing to compare.
        """
        outputs = ((name, one, taught[name]) for name, one in said.outputs.items() if isinstance(one, Logits))
        chunk = getattr(self, "chunk", 0)
        return {name: scores.between(a, b, apart.of_classes, chunk=chunk) for name, a, b in outputs}

    def right_classes(self, batch: Batch) -> dict[str, tuple[Array, Array]]:
        """(right class, weight) at the slots of every output that is one of some classes; {}: none is."""
        return {}

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """The score of what the model says, and the terms of the model itself."""
        predictions = self.predict(model, batch, key)
        loss = self.score(predictions, batch)
        return Loss({**loss.terms, **predictions.terms}, {**loss.measures, **predictions.terms})

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """What stands around a prompt, as in the rows that `prepare` lays out. UserError: it trains no generation."""
        raise UserError(
            f"A model trained with {type(self).__name__} does not generate text: that takes a decoder or an encoder-"
            "decoder (CausalLM, SpanCorruption, ...). A masked language model fills gaps: jaxlm fill_mask."
        )
