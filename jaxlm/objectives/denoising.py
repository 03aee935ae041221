"""Denoising as in BART (Lewis et al., 1910.13461, section 2.2): damage a text, write the whole text again.

In: rows of passages. Out: source `bos damaged eos`, target `bos text eos`, which the decoder reads one later behind
its start token. Five kinds of damage, in this order: sentences permuted, the text rotated, spans replaced by one [MASK]
each (lengths are Poisson; a span of none inserts a [MASK]), tokens masked, tokens deleted.
"""

import dataclasses

import numpy as np

from jaxlm.batch import Batch, Row, Vocabulary
from jaxlm.errors import UserError
from jaxlm.objectives import generative
from jaxlm.objectives.frame import Frame


@dataclasses.dataclass(kw_only=True)
class Denoising(generative.Generative):
    """BART as published: permute 1, infill 0.3, mean_span 3, the others 0, decoder_start "eos"."""

    permute: float  # share of the sentences that are shuffled; a sentence ends at . ! ?
    rotate: float  # share of the texts that begin at a random token and wrap around
    infill: float  # share of the tokens hidden by spans
    mean_span: float  # of the Poisson distribution of their lengths
    mask: float  # share of the tokens replaced by [MASK] one by one
    delete: float  # share of the tokens left out
    decoder_start: generative.Start  # what the decoder's row begins with

    def validate(self, where: str) -> None:
        """Shares in [0, 1]; some damage."""
        super().validate(where)
        for name, published in (
            ("permute", "1"),
            ("rotate", "0"),
            ("infill", "0.3"),
            ("mask", "0"),
            ("delete", "0"),
        ):
            generative.share(self, where, name, published=published)
        if not 0.1 <= self.mean_span <= 100.0:
            raise UserError(f"{where}.mean_span={self.mean_span}: allowed is 0.1 to 100 (published: 3).")
        if not any((self.permute, self.rotate, self.infill, self.mask, self.delete)):
            raise UserError(
                f"{where}: nothing is damaged, so there is nothing to learn. Published: permute=1, infill=0.3."
            )

    @property
    def overhead(self) -> int:
        """bos and eos."""
        return 2

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs bos, eos, mask and the start token; to permute, a vocabulary with full stops."""
        vocabulary.require("denoising", "bos", "eos", "mask", self.decoder_start)
        if self.permute:
            vocabulary.require("permuting sentences (denoising.permute)", "stops")

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """bos and eos around a source; the target begins with bos too, which is no answer yet."""
        bos, eos = (vocabulary.bos,), (vocabulary.eos,)
        start = (generative.start_token(self.decoder_start, vocabulary), *bos)
        return Frame(before=bos, after=eos, start=start, stops=eos)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Source and target rows of equal length; both number their segments alike."""
        around = lambda tokens: np.concatenate([[vocabulary.bos], tokens, [vocabulary.eos]])
        pairs = [
            (around(self.damage(tokens, vocabulary, rng)), around(tokens))
            for tokens, _ in generative.pieces(row)
        ]
        start, length = generative.start_token(self.decoder_start, vocabulary), len(row.tokens_T)
        return generative.source_and_target(pairs, (length, length), start, vocabulary.pad)

    def damage(self, tokens: np.ndarray, vocabulary: Vocabulary, rng: np.random.Generator) -> np.ndarray:
        """What the encoder sees of a text, never longer than it, without bos and eos."""
        if self.permute:
            tokens = permuted(tokens, vocabulary.stops, self.permute, rng)
        if self.rotate and rng.random() < self.rotate:
            tokens = np.roll(tokens, -int(rng.integers(len(tokens))))
        if self.infill:
            tokens = infilled(tokens, vocabulary.mask, self.infill, self.mean_span, rng)
        if self.mask:
            tokens = tokens.copy()
            tokens[_some(len(tokens), self.mask, rng)] = vocabulary.mask
        if self.delete:
            tokens = np.delete(tokens, _some(len(tokens), self.delete, rng))
        return tokens


def permuted(
    tokens: np.ndarray, stops: tuple[int, ...], share: float, rng: np.random.Generator
) -> np.ndarray:
    """The text with `share` of its sentences in random order among their places."""
    ends = np.flatnonzero(np.isin(tokens[:-1], stops)) + 1
    sentences = np.split(tokens, ends)
    chosen = rng.permutation(len(sentences))[: round(share * len(sentences))]
    order = np.arange(len(sentences))
    order[np.sort(chosen)] = chosen
    return np.concatenate([sentences[i] for i in order])


def infilled(
    tokens: np.ndarray, mask: int, share: float, mean_span: float, rng: np.random.Generator
) -> np.ndarray:
    """The text with `share` of its tokens in spans, each of them one `mask`; two spans never touch."""
    hidden = round(share * len(tokens))
    lengths = _span_lengths(hidden, mean_span, rng)
    seen = len(tokens) - hidden
    # A span stands in one of the gaps around the tokens that stay; more spans than gaps are merged into the last.
    if len(lengths) > seen + 1:
        lengths = np.append(lengths[:seen], lengths[seen:].sum())
    gaps = np.sort(rng.choice(seen + 1, len(lengths), replace=False))
    begins = gaps + np.cumsum(lengths) - lengths
    keep = np.ones(len(tokens), bool)
    for begin, length in zip(begins.tolist(), lengths.tolist(), strict=True):
        keep[begin : begin + length] = False
    return np.insert(tokens[keep], gaps, mask)


def _span_lengths(total: int, mean_span: float, rng: np.random.Generator) -> np.ndarray:
    """Poisson lengths that add up to `total`, the last one cut; at most `total` of them, so that texts never grow."""
    lengths: list[int] = []
    left = total
    while left:
        lengths.append(min(int(rng.poisson(mean_span)), left))
        left -= lengths[-1]
    empty = [i for i, length in enumerate(lengths) if not length]
    too_many = max(len(lengths) - total, 0)
    return np.array([length for i, length in enumerate(lengths) if i not in empty[:too_many]], int)


def _some(number: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Places of `share` of a text; one token is always left."""
    return rng.permutation(number)[: min(round(share * number), number - 1)]
