"""Translation, or any text from another: predict a record's second text from its first (Vaswani et al., 1706.03762).

In: rows of pairs, source and target as bare tokens. Out: source `text eos`, target `text eos`, which the decoder reads
one later behind its start token. A pair's source and target are segments of one number.
"""

import dataclasses
from typing import Literal

import numpy as np

from jaxlm.batch import Batch, Row, Vocabulary
from jaxlm.data.rows import translations
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.objectives import generative
from jaxlm.objectives.frame import Frame
from jaxlm.objectives.search import Search


@dataclasses.dataclass(kw_only=True)
class Translation(generative.Generative):
    """As published: label_smoothing 0.1, z_loss 0. `data.text_fields` names source and target.

    Words before every source, such as T5's "translate English to German: ", are a step: data.steps=(Prefix(text=...),).
    """

    decoder_start: generative.Start  # what the decoder's row begins with; "pad" in Marian's format
    pairs_per_row: int  # at most
    # What becomes of a pair whose source does not fit a row: it is left out, or its source is cut at the end
    long_sources: Literal["leave_out", "cut"] = "leave_out"
    # Tokens of a source's row for one of a target's; above 1 where targets are shorter, as those of summaries are
    source_per_target: int = 1
    bos: bool = False  # whether bos begins a source and a target, as in BART's format
    # How `predict`, `evaluate` and evaluation in training look for an answer
    search: Search = dataclasses.field(default_factory=Search)

    def validate(self, where: str) -> None:
        """At least one pair a row."""
        super().validate(where)
        if not 1 <= self.pairs_per_row < 2**16:
            raise UserError(
                f"{where}.pairs_per_row={self.pairs_per_row}: allowed is 1 (a pair a row) to {2**16 - 1}."
            )

        if not 1 <= self.source_per_target <= 256:
            raise UserError(f"{where}.source_per_target={self.source_per_target}: allowed is 1 to 256.")
        if self.long_sources not in ("leave_out", "cut"):
            raise UserError(f"{where}.long_sources={self.long_sources!r}: allowed: leave_out, cut.")
        self.search.validate(f"{where}.search.")
        if self.search.n_best > 1:
            raise UserError(
                f"{where}.search.n_best={self.search.n_best}: a source has one answer here. Fix: 1."
            )

    @property
    def needs_sentences(self) -> bool:
        """The fields of a record are kept as sentences of a document."""
        return True

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Pairs of texts; half of the plan's row is one side of them, and one token of it is an eos."""
        return translations.make_translations(
            shards,
            vocabulary,
            max_tokens=self.longest_source(asked.length // 2),
            cache=asked.cache,
            cut=self.long_sources == "cut",
            ratio=self.source_per_target,
            special=1 + self.bos,
        )

    def longest_source(self, row_length: int) -> int:
        """Tokens that fit a row, with eos behind them, and bos if there is one."""
        return row_length - 1 - self.bos

    def longest_target(self, row_length: int) -> int:
        """Tokens, its eos among them."""
        return row_length // self.source_per_target

    def max_items(self, length: int) -> int:
        """As configured."""
        return self.pairs_per_row

    def plan_length(self, row_length: int) -> int:
        """Room for both rows."""
        return 2 * row_length

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs eos and the start token."""
        vocabulary.require("translation", "eos", self.decoder_start, *(("bos",) if self.bos else ()))

    def slots(self, row_length: int, train: bool) -> int:
        """Tokens of the decoder's row."""
        return self.longest_target(row_length // 2)

    def check_length(self, row_length: int, vocabulary: Vocabulary, where: str) -> None:
        """A token and eos on both sides."""
        if self.longest_target(row_length) < 2 + self.bos:
            raise UserError(
                f"{where}={row_length}: with source_per_target={self.source_per_target} a target's row would have "
                f"{self.longest_target(row_length)} tokens. Use at least {(2 + self.bos) * self.source_per_target}."
            )

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """eos behind a source and behind its answer; bos, if there is one, is no answer yet."""
        before = (vocabulary.bos,) if self.bos else ()
        start = (generative.start_token(self.decoder_start, vocabulary), *before)
        return Frame(before=before, after=(vocabulary.eos,), start=start, stops=(vocabulary.eos,))

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Source and target rows; nothing is drawn."""
        own = lambda number, type: row.tokens_T[(row.segments_T == number) & (row.texts_T == type)]
        bos = [vocabulary.bos] if self.bos else []
        side = lambda number, type: np.concatenate([bos, own(number, type), [vocabulary.eos]]).astype(
            np.int32
        )
        numbers = range(1, int(row.segments_T.max(initial=0)) + 1)
        length, start = len(row.tokens_T) // 2, generative.start_token(self.decoder_start, vocabulary)
        pairs = [(side(number, 0), side(number, 1)) for number in numbers]
        return generative.source_and_target(
            pairs, (length, self.longest_target(length)), start, vocabulary.pad
        )


@dataclasses.dataclass(kw_only=True)
class Summarisation(Translation):
    """The same of a text and what it says in short; it is measured as summaries are."""
