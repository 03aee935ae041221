"""Phrases as units of masked LM: token, word and phrase level mixed, with a lexicon of phrases that is mined or given.

In: the training split, counted once and cached by fingerprint. Out: positions to hide, by level: a token, the word
around it, the phrase around it (ERNIE: Sun et al., 1904.09223). The lexicon is ERNIE-Gram's (Xiao et al., 2010.12148,
section 3.3): the n-grams with the highest t-statistic against the hypothesis that their tokens are independent.
"""

import dataclasses
import functools
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from jaxlm.batch import Row, Vocabulary
from jaxlm.cached import Cache
from jaxlm.errors import UserError
from jaxlm.objectives import units

LEAST_COUNT = 5  # an n-gram seen less often is no phrase, whatever its statistic
BLOCK = 1 << 22  # tokens counted at once


@dataclasses.dataclass(kw_only=True)
class Phrases:
    """Shares of the three levels, and the lexicon's sizes; ERNIE-Gram: sizes (200_000, 100_000)."""

    token_share: float  # of the places chosen; what is left of 1 is phrases
    word_share: float  # of the places chosen: whole words
    sizes: tuple[int, ...]  # how many phrases of 2, 3, ... tokens
    file: str = ""  # a lexicon that an earlier run mined (.npz); empty: mined from the training split
    mined_tokens: ClassVar[int] = 50_000_000  # of the training split, from its beginning

    def validate(self, where: str) -> None:
        """Checks shares and sizes, and that a given file exists."""
        if min(self.token_share, self.word_share) < 0 or self.token_share + self.word_share > 1.0 + 1e-9:
            raise UserError(
                f"{where}: token_share={self.token_share} and word_share={self.word_share} must be shares that add up "
                "to at most 1; the rest is phrases."
            )
        if not 1 <= len(self.sizes) <= 3 or min(self.sizes) < 0:
            raise UserError(
                f"{where}.sizes={self.sizes}: one to three counts, of phrases of 2, 3 and 4 tokens (published: "
                "(200000, 100000))."
            )
        if self.file and not os.path.isfile(self.file):
            raise UserError(f"{where}.file={self.file}: no such file; leave it empty to mine the lexicon.")

    def fit(self, shards: Any, vocabulary: Vocabulary, cache: Cache | None) -> "Phrases":
        """With `file` set: the lexicon of this training split, found in the cache or mined into it."""
        if self.file:
            _lexicon(self.file, len(self.sizes))
            return self
        if cache is None:
            raise ValueError("phrases are mined into a cache folder; none was given")

        def write(folder: pathlib.Path) -> None:
            found = {str(n): mine(shards, vocabulary, n, size) for n, size in enumerate(self.sizes, 2)}
            np.savez(folder / "lexicon.npz", allow_pickle=False, **found)

        settings = f"{'-'.join(map(str, self.sizes))}-{self.mined_tokens}-{LEAST_COUNT}"
        folder = cache.find(
            f"phrases/{shards.fingerprint[:24]}-{settings}", f"{shards.fingerprint}-{settings}", write
        )
        return dataclasses.replace(self, file=str(folder / "lexicon.npz"))

    def choose(self, row: Row, vocabulary: Vocabulary, number: int, rng: np.random.Generator) -> np.ndarray:
        """At random places a token, its word or its phrase; a token that is in no phrase stands for its word."""
        candidates, begins = units.words(row, vocabulary)
        word_of = np.searchsorted(begins, np.arange(len(candidates)), side="right") - 1
        ends = np.append(begins, len(candidates))
        first, last = self._phrases(row.tokens_T[candidates], candidates, begins)
        levels = rng.random(len(candidates))

        def span(place: int) -> tuple[int, list[int]]:
            if levels[place] < self.token_share:
                return place, [place + 1]
            if levels[place] < self.token_share + self.word_share or last[place] == 0:
                word = word_of[place]
                return int(begins[word]), [int(ends[word + 1])]
            return int(first[place]), [int(last[place])]

        return units.take(candidates, row, rng.permutation(len(candidates)), span, number)

    def _phrases(
        self, tokens: np.ndarray, candidates: np.ndarray, begins: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """For every candidate the phrase around it, [first, last), in whole words; last 0: none. Longer phrases win."""
        first, last = np.zeros(len(tokens), int), np.zeros(len(tokens), int)
        lexicon = _lexicon(self.file, len(self.sizes))
        edge = np.zeros(len(tokens) + 1, bool)
        edge[[*begins, len(tokens)]] = True
        for n in range(len(self.sizes) + 1, 1, -1):
            codes = _codes(tokens.astype(np.int64), n)
            known = np.isin(codes, lexicon[n]) & edge[: len(codes)] & edge[n : n + len(codes)]
            known &= (candidates[n - 1 :] - candidates[: len(codes)] == n - 1) if len(codes) else known
            for at in np.flatnonzero(known).tolist():
                if not last[at : at + n].any():
                    first[at : at + n], last[at : at + n] = at, at + n
        return first, last


def mine(shards: Any, vocabulary: Vocabulary, n: int, size: int) -> np.ndarray:
    """Codes of the `size` n-grams with the highest t-statistic, ascending; they begin with the beginning of a word."""
    counts_V = np.zeros(vocabulary.size, np.int64)
    grams: tuple[np.ndarray, np.ndarray] = (np.empty(0, np.int64), np.empty(0, np.int64))
    total = 0
    for tokens, fresh in _blocks(shards, Phrases.mined_tokens):
        counts_V += np.bincount(tokens, minlength=vocabulary.size)
        codes = _codes(tokens, n)
        inside = np.ones(len(codes), bool)
        for offset in range(1, n):
            inside &= ~fresh[offset : offset + len(codes)]  # no n-gram reaches into the next document
        total += int(inside.sum())
        inside &= ~(vocabulary.continues_V | vocabulary.special_V)[tokens[: len(codes)]]
        found, times = np.unique(codes[inside], return_counts=True)
        grams = _add(grams, (found, times))
    codes, times = (column[grams[1] >= LEAST_COUNT] for column in grams)
    scores = t_statistic(_decode(codes, n), times, counts_V, total)
    best = np.lexsort((codes, -scores))[:size]
    return np.sort(codes[best])


def t_statistic(grams: np.ndarray, times: np.ndarray, counts_V: np.ndarray, total: int) -> np.ndarray:
    """(p - p') / sqrt(p (1 - p) / N): p an n-gram's share of all N, p' the product of its tokens' shares."""
    p = times / max(total, 1)
    independent = np.prod(counts_V[grams] / max(int(counts_V.sum()), 1), axis=-1)
    return (p - independent) / np.sqrt(np.maximum(p * (1.0 - p), 1e-300) / max(total, 1))


def _blocks(shards: Any, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(tokens, whether each begins a document), about BLOCK at a time, of the first `limit` tokens."""
    lengths = np.asarray(shards.lengths, np.int64)
    ends = np.cumsum(lengths)
    last = min(int(np.searchsorted(ends, limit)) + 1, len(lengths))
    at = 0
    while at < last:
        base = int(ends[at - 1]) if at else 0
        stop = min(max(int(np.searchsorted(ends, base + BLOCK, side="right")), at + 1), last)
        documents = shards.__getitems__(range(at, stop))
        tokens = np.concatenate([np.empty(0, np.int64), *documents]).astype(np.int64)
        fresh = np.zeros(len(tokens), bool)
        begins = np.cumsum([0, *(len(document) for document in documents[:-1])])
        fresh[begins[begins < len(tokens)]] = True
        yield tokens, fresh
        at = stop


def _codes(tokens: np.ndarray, n: int) -> np.ndarray:
    """Every n-gram as one number; ids stay below 2^15.75 for n = 4, far above any vocabulary for less."""
    count = max(len(tokens) - n + 1, 0)
    codes = np.zeros(count, np.int64)
    for offset in range(n):
        codes = codes * _base(n) + tokens[offset : offset + count]
    return codes


def _decode(codes: np.ndarray, n: int) -> np.ndarray:
    digits = [codes // _base(n) ** power % _base(n) for power in range(n - 1, -1, -1)]
    return np.stack(digits, axis=-1) if len(codes) else np.empty((0, n), np.int64)


def _base(n: int) -> int:
    return int((2**63 - 1) ** (1.0 / n) * 0.999999)


def _add(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    codes, where = np.unique(np.concatenate([a[0], b[0]]), return_inverse=True)
    times = np.zeros(len(codes), np.int64)
    np.add.at(times, where, np.concatenate([a[1], b[1]]))
    return codes, times


@functools.lru_cache(maxsize=4)
def _lexicon(file: str, kinds: int) -> dict[int, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {n: stored[str(n)] for n in range(2, kinds + 2)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"phrase lexicon {file}: cannot be read ({error}). Leave `file` empty to mine it again."
        ) from error
