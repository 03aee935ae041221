"""Span corruption: hide random spans, predict them in order (T5: Raffel et al., 1910.10683, section 3.1.4).

In: rows of passages. Out: for an encoder-decoder the text with a sentinel in place of each span (source), and the
sentinels each followed by its span (target), both ending with eos. Rows are planned so that the source row is full: at
density 0.15 and mean span 3, 568 tokens make 512 of source and 114 of target, as published. A piece too short for its
share of a span is left out of both rows that time.
"""

import dataclasses
import math

import numpy as np

from jaxlm.batch import Batch, Row, Vocabulary
from jaxlm.errors import UserError
from jaxlm.objectives import generative, spans
from jaxlm.objectives.frame import Frame


@dataclasses.dataclass(kw_only=True)
class SpanCorruption(generative.Generative):
    """T5 as published: density 0.15, mean_span 3, decoder_start "pad"; 1.1 the same; z_loss 1e-4."""

    density: float  # share of the tokens that are hidden
    mean_span: float  # tokens
    decoder_start: generative.Start  # what the decoder's row begins with

    def validate(self, where: str) -> None:
        """Density inside (0, 0.8], spans of at least one token."""
        super().validate(where)
        check_spans(self, where)

    @property
    def overhead(self) -> int:
        """Tokens that an additional piece costs, in units of text: its eos in the source and in the target."""
        source, target = per_token(self.density, self.mean_span)
        return math.ceil(1.0 / min(source, target))

    def plan_length(self, row_length: int) -> int:
        """The most tokens whose source fits `row_length`, and the room for one piece's eos."""
        tokens = 2
        while sizes(tokens + 1, self.density, self.mean_span)[0] <= row_length:
            tokens += 1
        return tokens + self.overhead

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs eos, sentinels and the start token."""
        vocabulary.require("span corruption", "eos", "sentinels", self.decoder_start)

    def check_length(self, row_length: int, vocabulary: Vocabulary, where: str) -> None:
        """There must be sentinels for a row that one text fills."""
        tokens = self.plan_length(row_length) - self.overhead
        check_sentinels(tokens, self, len(vocabulary.sentinels), f"{where}={row_length}")

    def slots(self, row_length: int, train: bool) -> int:
        """Tokens of the decoder's row."""
        return sizes(row_length - self.overhead, self.density, self.mean_span)[1]

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """eos behind a source and behind its answer."""
        start = (generative.start_token(self.decoder_start, vocabulary),)
        return Frame(before=(), after=(vocabulary.eos,), start=start, stops=(vocabulary.eos,))

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Source and target rows; both number their segments alike."""
        tokens = [tokens for tokens, _ in generative.pieces(row)]
        lengths = sizes(len(row.tokens_T) - self.overhead, self.density, self.mean_span)
        pairs = corrupt(tokens, self.density, self.mean_span, lengths, vocabulary, rng)
        start = generative.start_token(self.decoder_start, vocabulary)
        return generative.source_and_target(pairs, lengths, start, vocabulary.pad)


def sizes(tokens: int, density: float, mean_span: float) -> tuple[int, int]:
    """Lengths of source and target of one text, each with its eos."""
    hidden, number = spans.counts(tokens, density, mean_span)
    return tokens - hidden + number + 1, hidden + number + 1


def per_token(density: float, mean_span: float) -> tuple[float, float]:
    """The same in the limit: tokens of source and of target for every token of text."""
    marks = min(density / mean_span, 1.0 - density)
    return 1.0 - density + marks, density + marks


def corrupt(
    texts: list[np.ndarray],
    density: float,
    mean_span: float,
    room: tuple[int, int],
    vocabulary: Vocabulary,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(source, target) of every text that got a span, each ending with eos; `room` is that of the two rows."""
    lengths = np.array([len(tokens) for tokens in texts], int)
    hidden, numbers = spans.share_out(lengths, density, mean_span, room, rng)
    pairs = []
    for tokens, tokens_hidden, number in zip(texts, hidden.tolist(), numbers.tolist(), strict=True):
        if not number:
            continue
        mask = spans.noise_mask(len(tokens), tokens_hidden, number, rng)
        source, target = spans.with_sentinels(tokens, mask, vocabulary.sentinels)
        pairs.append((np.append(source, vocabulary.eos), np.append(target, vocabulary.eos)))
    return pairs


def check_sentinels(tokens: int, config: object, sentinels: int, where: str) -> None:
    """UserError unless every span of a text of so many tokens has a sentinel; `where`: what asks for such texts."""
    density, mean_span = getattr(config, "density"), getattr(config, "mean_span")  # noqa: B009
    needed = spans.counts(tokens, density, mean_span)[1]
    if needed > sentinels:
        raise UserError(
            f"{where}: a text that fills a row has {tokens} tokens, and at density {density} and mean span {mean_span} "
            f"needs {needed} sentinels; there are {sentinels}. Fix: a tokenizer with more "
            "(--config.tokenizer.sentinels), longer spans, or shorter rows."
        )


def check_spans(config: object, where: str) -> None:
    """UserError for a density or a mean span that cannot work."""
    density, mean_span = getattr(config, "density"), getattr(config, "mean_span")  # noqa: B009
    if not 0.0 < density <= 0.8:
        raise UserError(f"{where}.density={density}: allowed is above 0 and at most 0.8 (published: 0.15).")
    if not 1.0 <= mean_span <= 1000.0:
        raise UserError(f"{where}.mean_span={mean_span}: allowed is 1 to 1000 tokens (published: 3).")
