"""What masked LM hides together: single tokens, whole words, n-grams. In: a row, a number of tokens. Out: positions.

A unit has `choose(row, vocabulary, number, rng)`: at most `number` sorted positions of tokens that are not special,
whole units only (phrases.py has the unit that needs a lexicon). Guaranteed: no unit crosses a segment.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from jaxlm.batch import Row, Vocabulary
from jaxlm.errors import UserError


@dataclasses.dataclass(kw_only=True)
class Tokens:
    """Every token by itself (BERT, 2018)."""

    def choose(self, row: Row, vocabulary: Vocabulary, number: int, rng: np.random.Generator) -> np.ndarray:
        """Exactly `number` positions (fewer if there are not as many), uniform."""
        return np.sort(rng.permutation(np.flatnonzero(maskable(row, vocabulary)))[:number])


@dataclasses.dataclass(kw_only=True)
class Words:
    """All pieces of a word together (BERT's whole-word masking, 2019)."""

    def choose(self, row: Row, vocabulary: Vocabulary, number: int, rng: np.random.Generator) -> np.ndarray:
        """Words in random order, skipping words that would exceed `number`."""
        candidates, begins = words(row, vocabulary)
        sizes = np.diff(begins, append=len(candidates))
        order = rng.permutation(len(begins))
        fitting = int((np.cumsum(sizes[order]) <= number).sum())
        chosen = np.zeros(len(begins), bool)
        chosen[order[:fitting]] = True
        left = number - int(sizes[chosen].sum())
        for word in order[fitting:].tolist():
            if not left:
                break
            if sizes[word] <= left:
                chosen[word] = True
                left -= int(sizes[word])
        return candidates[np.repeat(chosen, sizes)]


@dataclasses.dataclass(kw_only=True)
class Ngrams:
    """Up to `longest` neighbours together, n of them with probability proportional to 1/n.

    ALBERT (Lan et al., 1909.11942, section 4.1): longest 3, of "words".
    """

    longest: int  # tokens or words that are chosen together, at most
    of: Literal["tokens", "words"]  # what neighbours are counted in

    def validate(self, where: str) -> None:
        """UserError for n-grams of nothing."""
        if not 1 <= self.longest <= 64:
            raise UserError(f"{where}.longest={self.longest}: allowed is 1 to 64 (published: 3).")

    def choose(self, row: Row, vocabulary: Vocabulary, number: int, rng: np.random.Generator) -> np.ndarray:
        """Runs from random places, cut short where the segment, a hidden neighbour or `number` ends them."""
        candidates, begins = words(row, vocabulary)
        if self.of == "tokens":
            begins = np.arange(len(candidates))
        inverse = 1.0 / np.arange(1, self.longest + 1)
        shares = np.cumsum(inverse / inverse.sum())
        wanted = np.searchsorted(shares, rng.random(len(begins)), side="right") + 1
        ends = np.append(begins, len(candidates))

        def span(unit: int) -> tuple[int, list[int]]:
            last = min(unit + int(wanted[unit]), len(begins))
            return int(begins[unit]), [int(ends[k]) for k in range(last, unit, -1)]

        return take(candidates, row, rng.permutation(len(begins)), span, number)


def take(
    candidates: np.ndarray,
    row: Row,
    order: np.ndarray,
    span: Callable[[int], tuple[int, list[int]]],
    number: int,
) -> np.ndarray:
    """Positions of spans, in the order given, until `number` is reached.

    `span(unit)` gives its begin and its possible ends (indices into `candidates`), the most wanted first; the first end
    is taken that fits, lies in the same run of candidates of the same segment, and covers nothing that is taken.
    """
    taken = np.zeros(len(candidates), bool)
    # A special token between two candidates, or another segment, ends a run.
    run = np.cumsum(np.diff(candidates, prepend=candidates[:1]) > 1) if len(candidates) else candidates
    left = number
    for unit in order.tolist():
        if not left:
            break
        begin, ends = span(unit)
        for end in ends:
            free = run[begin] == run[end - 1] and not taken[begin:end].any()
            if end - begin <= left and free:
                taken[begin:end] = True
                left -= end - begin
                break
    return candidates[taken]


def maskable(row: Row, vocabulary: Vocabulary) -> np.ndarray:
    """Which tokens of the row may be hidden."""
    return (row.segments_T > 0) & ~vocabulary.special_V[row.tokens_T]


def words(row: Row, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """(positions that may be hidden, where among them words begin)."""
    can = maskable(row, vocabulary)
    candidates = np.flatnonzero(can)
    # A piece of a document may begin within a word: what follows [CLS] or [SEP] begins a word in any case.
    after_special = np.concatenate([[True], ~can[:-1]])
    begins = np.flatnonzero((~vocabulary.continues_V[row.tokens_T] | after_special)[candidates])
    return candidates, begins
