"""UL2's mixture of denoisers: short spans, extreme spans, and the rest of a text, by turns (Tay et al., 2205.05131).

In: rows of passages. Out: for every row one denoiser, drawn evenly from a list. The source begins with the denoiser's
mode token, hides spans behind sentinels as in span corruption (or, for "S", the end of the text behind one), and ends
with eos. For an encoder-decoder source and target are two rows; for a decoder the target follows the source in one
row, of which the source is the prefix.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from jaxlm.batch import Batch, Row, Vocabulary
from jaxlm.errors import UserError
from jaxlm.objectives import generative, span_corruption
from jaxlm.objectives.frame import Frame

MODES = ("R", "X", "S")
MODE_TOKEN = 1  # at the beginning of every source


@dataclasses.dataclass(kw_only=True)
class Denoiser:
    """R: short spans, few tokens. X: long spans or many tokens. S: the end of the text, `density` of it on average."""

    mode: Literal["R", "X", "S"]  # R: regular, X: extreme, S: sequential
    density: float  # share of the tokens that are hidden
    mean_span: float  # tokens; of S nothing depends on it

    def validate(self, where: str) -> None:
        """As for span corruption; S hides up to 1.5 times its density."""
        span_corruption.check_spans(self, where)
        if self.mode == "S" and self.density > 0.6:
            raise UserError(f"{where}.density={self.density}: of S allowed is up to 0.6 (published: 0.25).")


def published() -> tuple[Denoiser, ...]:
    """The seven denoisers of the paper (table 1 and section 3.1.2), each as likely as the others."""
    regular, extreme = ((3.0, 0.15), (8.0, 0.15)), ((3.0, 0.5), (8.0, 0.5), (64.0, 0.15), (64.0, 0.5))
    return (
        *(Denoiser(mode="R", density=density, mean_span=mean) for mean, density in regular),
        *(Denoiser(mode="X", density=density, mean_span=mean) for mean, density in extreme),
        Denoiser(mode="S", density=0.25, mean_span=1.0),
    )


@dataclasses.dataclass(kw_only=True)
class MixtureOfDenoisers(generative.Generative):
    """As published: denoisers `published()`, form "encoder_decoder" or "decoder", decoder_start "pad".

    The mode tokens R, X, S are the tokenizer's last three sentinels. A row is planned for the denoiser that needs most.
    """

    denoisers: tuple[Denoiser, ...]  # one is drawn for every row; repeat one to draw it more often
    form: Literal["decoder", "encoder_decoder"]  # whether source and target share a row
    decoder_start: generative.Start  # of an encoder-decoder's target row

    def validate(self, where: str) -> None:
        """At least one denoiser; each checks itself."""
        super().validate(where)
        if not self.denoisers:
            raise UserError(f"{where}.denoisers is empty. Published: ul2.published().")

    @property
    def trains(self) -> generative.Kind:
        """As configured."""
        return self.form

    @property
    def overhead(self) -> int:
        """Tokens that an additional piece costs at most, in units of text, over all denoisers."""
        return max(_cost(denoiser, self.form) for denoiser in self.denoisers)

    def plan_length(self, row_length: int) -> int:
        """The most tokens that fit rows of `row_length` whatever is drawn."""
        tokens = 2
        while self._lengths(tokens + 1)[0] <= row_length:
            tokens += 1
        return tokens + self.overhead

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs eos, the start token, and sentinels beyond the three mode tokens."""
        start = (self.decoder_start,) if self.form == "encoder_decoder" else ()
        vocabulary.require("a mixture of denoisers", "eos", "sentinels", *start)
        if len(vocabulary.sentinels) <= len(MODES):
            raise UserError(
                f"a mixture of denoisers takes three sentinels for its modes and needs others for spans; the tokenizer "
                f"has {len(vocabulary.sentinels)}. Fix: a tokenizer with more, "
                "such as --config.tokenizer.sentinels=100, which T5 has."
            )

    def check_length(self, row_length: int, vocabulary: Vocabulary, where: str) -> None:
        """There must be sentinels for a row that one text fills, whatever is drawn."""
        tokens, free = self.plan_length(row_length) - self.overhead, len(vocabulary.sentinels) - len(MODES)
        for denoiser in self.denoisers:
            if denoiser.mode != "S":
                span_corruption.check_sentinels(tokens, denoiser, free, f"{where}={row_length}")

    def slots(self, row_length: int, train: bool) -> int:
        """Tokens of the decoder's row."""
        return self._lengths(row_length - self.overhead)[-1]

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """The prompt as an "S" denoiser's source: its mode, the text, the sentinel that stands for the rest."""
        mode = vocabulary.sentinels[MODES.index("S") - len(MODES)]
        rest, eos = vocabulary.sentinels[0], vocabulary.eos
        decoder = self.form == "decoder"
        start = () if decoder else (generative.start_token(self.decoder_start, vocabulary),)
        return Frame(before=(mode,), after=(rest, eos), start=start, stops=(eos,), prefix=decoder)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """One row through one denoiser."""
        denoiser = self.denoisers[int(rng.integers(len(self.denoisers)))]
        free = dataclasses.replace(vocabulary, sentinels=vocabulary.sentinels[: -len(MODES)])
        mode = vocabulary.sentinels[MODES.index(denoiser.mode) - len(MODES)]
        texts = [tokens for tokens, _ in generative.pieces(row)]
        lengths = self._lengths(len(row.tokens_T) - self.overhead)
        pairs = _noisy(texts, denoiser, self._room(lengths, denoiser, texts), free, rng)
        pairs = [(np.concatenate([[mode], source]), target) for source, target in pairs]
        if self.form == "decoder":
            return generative.source_then_target(pairs, lengths[0], vocabulary.pad)
        start = generative.start_token(self.decoder_start, vocabulary)
        return generative.source_and_target(pairs, (lengths[0], lengths[1]), start, vocabulary.pad)

    def _room(
        self, lengths: tuple[int, ...], denoiser: Denoiser, texts: Sequence[np.ndarray]
    ) -> tuple[int, int]:
        """Of source and target without the mode tokens; a decoder's row is shared in the denoiser's proportion."""
        modes = MODE_TOKEN * len(texts)
        if self.form == "encoder_decoder":
            return lengths[0] - modes, lengths[1]
        source, target = _sizes(sum(map(len, texts)), denoiser)
        spare = lengths[0] + 1 - modes - (source - MODE_TOKEN) - target
        return source - MODE_TOKEN + spare // 2, target + spare - spare // 2

    def _lengths(self, tokens: int) -> tuple[int, ...]:
        """Source and target row of that much text, or of a decoder its one row."""
        both = [_sizes(tokens, denoiser) for denoiser in self.denoisers]
        if self.form == "decoder":
            return (max(source + target for source, target in both) - 1,)
        return max(source for source, _ in both), max(target for _, target in both)


def _noisy(
    texts: Sequence[np.ndarray],
    denoiser: Denoiser,
    room: tuple[int, int],
    vocabulary: Vocabulary,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    if denoiser.mode != "S":
        density, mean_span = denoiser.density, denoiser.mean_span
        return span_corruption.corrupt(list(texts), density, mean_span, room, vocabulary, rng)
    pairs = []
    for tokens in texts:
        share = denoiser.density * rng.uniform(0.5, 1.5)
        cut = len(tokens) - math.ceil(share * len(tokens))
        mark, eos = vocabulary.sentinels[0], vocabulary.eos
        if cut:
            pairs.append(
                (np.append(tokens[:cut], [mark, eos]), np.concatenate([[mark], tokens[cut:], [eos]]))
            )
    return pairs


def _sizes(tokens: int, denoiser: Denoiser) -> tuple[int, int]:
    """Most tokens of source and target of one text."""
    if denoiser.mode != "S":
        source, target = span_corruption.sizes(tokens, denoiser.density, denoiser.mean_span)
        return source + MODE_TOKEN, target
    least, most = (math.ceil(share * denoiser.density * tokens) for share in (0.5, 1.5))
    return tokens - least + 2 + MODE_TOKEN, most + 2


def _cost(denoiser: Denoiser, form: str) -> int:
    """Text that must be left out for an additional piece to fit, for the row that is shorter of room."""
    if denoiser.mode == "S":
        source, target, fixed = 1.0 - 0.5 * denoiser.density, 1.5 * denoiser.density, (2 + MODE_TOKEN, 3)
    else:
        source, target = span_corruption.per_token(denoiser.density, denoiser.mean_span)
        fixed = (1 + MODE_TOKEN, 1)
    if form == "decoder":
        return math.ceil((sum(fixed) - 1) / (source + target))
    return math.ceil(max(fixed[0] / source, fixed[1] / target))
