"""Pairs of text segments as BERT and ALBERT made them. In: sentence lengths. Out: a table of pairs, block by block.

Follows create_pretraining_data of the published code (Devlin et al., 1810.04805, appendix A.2), on lengths instead of
tokens and on many documents at once: every pass of the loop makes one pair in each document of a block. What a pair of
label 1 is differs: a segment of another document in place of the next one, or the two in swapped order (Lan et al.,
1909.11942, section 3.1).
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np

from jaxlm.data import draws
from jaxlm.data.rows.sentence_lengths import Sentences
from jaxlm.errors import UserError

PAIR = np.dtype(
    [
        ("document_a", np.uint32),
        ("start_a", np.uint32),
        ("document_b", np.uint32),
        ("start_b", np.uint32),
        ("length_a", np.uint16),
        ("length_b", np.uint16),
        ("label", np.uint8),
    ]
)
BLOCK = 1 << 15  # documents that go in step; part of what decides the draws
DOCUMENT_TRIES = 10  # as published: draws of another document before the same one is accepted
MIN_TOKENS = 2  # of a short pair

Negatives = Literal["random", "swapped"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the pairs besides the text."""

    max_tokens: int  # of both sentences of a pair together
    short_share: float  # of documents that aim at a random shorter length
    negatives: Negatives  # what pairs of label 1 are: b from another document, or a and b in swapped order
    negative_share: float  # of pairs of label 1, where there is a choice
    duplicates: int
    seed: int


def blocks(sentences: Sentences, settings: Settings) -> Iterator[np.ndarray]:
    """Arrays of dtype PAIR, the same for the same (sentences, settings)."""
    if settings.max_tokens < 2 * MIN_TOKENS or settings.max_tokens >= 2**16:
        raise UserError(
            f"pairs of {settings.max_tokens} tokens: allowed are {2 * MIN_TOKENS} to {2**16 - 1}."
        )
    count, make = len(sentences.document), _BLOCKS[settings.negatives]
    for duplicate in range(settings.duplicates):
        for number, low in enumerate(range(0, count, BLOCK)):
            rng = draws.generator(settings.seed, f"pairs {duplicate}", number)
            yield from make(sentences, settings, np.arange(low, min(low + BLOCK, count)), rng).passes()


class _Block:
    """Documents that are gone through in step."""

    def __init__(
        self, sentences: Sentences, settings: Settings, documents: np.ndarray, rng: np.random.Generator
    ):
        self.sentences, self.settings, self.rng = sentences, settings, rng
        self.document = documents
        self.next = sentences.offsets[documents]  # first sentence not yet used
        self.stop = sentences.offsets[documents + 1]
        most = settings.max_tokens
        short = rng.random(len(documents)) < settings.short_share
        drawn = rng.integers(MIN_TOKENS, most, len(documents), endpoint=True)
        self.target = np.where(short, drawn, most)

    def passes(self) -> Iterator[np.ndarray]:
        """One array of pairs per pass, until no document has sentences left."""
        while len(self.document):
            pairs, position = self.one_pass()
            yield pairs
            self._keep(position < self.stop, position)

    def one_pass(self) -> tuple[np.ndarray, np.ndarray]:
        """A pair of every document, and the sentence where each goes on."""
        raise NotImplementedError

    def _tokens(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        return self.sentences.ends[end] - self.sentences.ends[begin]

    def _reach(self, begin: np.ndarray, tokens: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """End of the shortest run of sentences from `begin` with at least `tokens` tokens (and one), up to `stop`."""
        ends = self.sentences.ends
        return np.minimum(np.searchsorted(ends, ends[begin] + np.maximum(tokens, 1)), stop)

    def _a_end(self, chunk_end: np.ndarray) -> np.ndarray:
        """End of a: uniform, with at least one sentence on each side of it where the chunk has two."""
        most = np.maximum(chunk_end - self.next - 1, 1)
        return self.next + self.rng.integers(1, most, endpoint=True)

    def _is_negative(self) -> np.ndarray:
        return self.rng.random(len(self.document)) < self.settings.negative_share

    def _pairs(self, a: tuple, b_document: np.ndarray, b: tuple, label: np.ndarray) -> np.ndarray:
        length_a, length_b = self._tokens(*a), self._tokens(*b)
        cut_a, cut_b = _cuts(length_a, length_b, self.settings.max_tokens)
        front_a, front_b = self.rng.binomial(cut_a, 0.5), self.rng.binomial(cut_b, 0.5)
        pairs = np.empty(len(length_a), PAIR)
        for name, document, begin, front in (
            ("a", self.document, a[0], front_a),
            ("b", b_document, b[0], front_b),
        ):
            first = self.sentences.offsets[document]
            pairs[f"document_{name}"] = self.sentences.document[document]
            pairs[f"start_{name}"] = self._tokens(first, begin) + front
        pairs["length_a"], pairs["length_b"] = length_a - cut_a, length_b - cut_b
        pairs["label"] = label
        return pairs

    def _keep(self, left: np.ndarray, position: np.ndarray) -> None:
        self.document, self.target = self.document[left], self.target[left]
        self.next, self.stop = position[left], self.stop[left]


class _RandomBlock(_Block):
    """BERT's: b follows a, or is from another document."""

    def one_pass(self) -> tuple[np.ndarray, np.ndarray]:
        """As published: with a random b, the sentences meant for b are used again."""
        chunk_end = self._reach(self.next, self.target, self.stop)
        a_end = self._a_end(chunk_end)
        is_random = (chunk_end - self.next == 1) | self._is_negative()
        tokens_a = self._tokens(self.next, a_end)
        b, b_begin, b_end = self._second(a_end, chunk_end, is_random, self.target - tokens_a)
        pairs = self._pairs((self.next, a_end), b, (b_begin, b_end), is_random)
        return pairs, np.where(is_random, a_end, chunk_end)

    def _second(
        self, a_end: np.ndarray, chunk_end: np.ndarray, is_random: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Document, first and last sentence of b."""
        offsets, count = self.sentences.offsets, len(self.sentences.document)
        other = self.rng.integers(count, size=len(self.document))
        for _ in range(DOCUMENT_TRIES - 1):
            same = np.flatnonzero(is_random & (other == self.document))
            if not len(same):
                break
            other[same] = self.rng.integers(count, size=len(same))
        begin = self.rng.integers(offsets[other], offsets[other + 1])
        end = self._reach(begin, target, offsets[other + 1])
        chosen = np.where(is_random, other, self.document)
        return chosen, np.where(is_random, begin, a_end), np.where(is_random, end, chunk_end)


class _SwappedBlock(_Block):
    """ALBERT's: b follows a, or a follows b. Where the published code takes a random b, for want of a second sentence,
    the next sentence joins here; the last sentence of a document, when it is left alone, makes no pair."""

    def passes(self) -> Iterator[np.ndarray]:
        """As of any block, of the documents that have two sentences left."""
        self._keep(self.stop - self.next >= 2, self.next)
        yield from super().passes()

    def one_pass(self) -> tuple[np.ndarray, np.ndarray]:
        """Both segments are cut to fit before they change places."""
        chunk_end = np.maximum(self._reach(self.next, self.target, self.stop), self.next + 2)
        a_end = self._a_end(chunk_end)
        swapped = self._is_negative()
        pairs = self._pairs((self.next, a_end), self.document, (a_end, chunk_end), swapped)
        for name in ("document", "start", "length"):
            a, b = pairs[f"{name}_a"], pairs[f"{name}_b"]
            a[swapped], b[swapped] = b[swapped], a[swapped]
        return pairs, np.where(self.stop - chunk_end >= 2, chunk_end, self.stop)


_BLOCKS: dict[str, type[_Block]] = {"random": _RandomBlock, "swapped": _SwappedBlock}


def _cuts(length_a: np.ndarray, length_b: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens to remove from a and from b: one by one from the longer, from b when both are equal."""
    excess = np.maximum(length_a + length_b - most, 0)
    difference = length_a - length_b
    alone = np.minimum(excess, np.abs(difference))  # until both are equal
    each = excess - alone
    cut_a = np.where(difference > 0, alone, 0) + each // 2
    cut_b = np.where(difference > 0, 0, alone) + (each + 1) // 2
    return cut_a, cut_b
