"""Fills [MASK]s. In: sentences and a masked language model. Out: the likeliest tokens for every mask.

One sentence a row; it may hold several masks, which are filled independently of each other, as in training.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Vocabulary
from jaxlm.errors import UserError
from jaxlm.infer import sampling
from jaxlm.infer.predict import Predictor

MASK = "[MASK]"  # means the tokenizer's own mask token, whatever its name


@dataclasses.dataclass(frozen=True)
class Filled:
    """One mask of one sentence: the candidates, likeliest first, as (token, probability)."""

    sentence: str
    candidates: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        shares = [{"token": token, "probability": share} for token, share in self.candidates]
        return {"text": self.sentence, "candidates": shares}


def check(tokenizer: Any, sentences: Sequence[str], *, row_length: int) -> None:
    """UserError for what `fill` would refuse."""
    for sentence in sentences:
        _encode(tokenizer, sentence, row_length)


def fill(predictor: Predictor, sentences: Sequence[str], *, top: int = 5) -> list[Filled]:
    """The `top` likeliest tokens for every [MASK], sentence by sentence.

    Raises UserError for a sentence without [MASK] or longer than a row, and for a tokenizer without a mask token.
    """
    tokenizer = predictor.tokenizer
    rows = [_encode(tokenizer, sentence, predictor.row_length) for sentence in sentences]
    known_V = sampling.known(tokenizer)
    top = min(top, int(known_V.sum()))
    results = predictor.by_row(
        functools.partial(_likeliest, known_V=known_V, top=top),
        rows,
        targets=functools.partial(_places, mask=tokenizer.vocabulary.mask),
    )
    found = []
    for sentence, row, (shares_MX, tokens_MX) in zip(sentences, rows, results, strict=True):
        for slot in range(row.count(tokenizer.vocabulary.mask)):
            pairs = zip(tokens_MX[slot], shares_MX[slot], strict=True)
            found.append(Filled(sentence, tuple((tokenizer.token(int(t)), float(p)) for t, p in pairs)))
    return found


def table(filled: Sequence[Filled]) -> str:
    """The result as text, one line per mask."""
    lines = []
    for item in filled:
        best = "  ".join(f"{token} {share:.1%}" for token, share in item.candidates)
        lines.append(f"{item.sentence}\n    {best}")
    return "\n".join(lines)


@functools.partial(jax.jit, static_argnames="top")
def _likeliest(model: Any, batch: Batch, known_V: Array, *, top: int) -> tuple[jax.Array, jax.Array]:
    """Probabilities and ids of the likeliest tokens at every mask."""
    logits_BMV = model.predict_tokens(model.encode(batch, None, at_BM=jnp.asarray(batch.targets)).x_BTD)
    return jax.lax.top_k(jax.nn.softmax(sampling.only(logits_BMV, known_V)), top)


def _places(tokens_BT: np.ndarray, mask: int) -> np.ndarray:
    """places_BM of the masks, in as many slots as a row has of them, rounded up to a power of two."""
    places = [np.flatnonzero(row == mask) for row in tokens_BT]
    slots = 1 << (max(map(len, places)) - 1).bit_length()
    places_BM = np.zeros((len(places), slots), np.int32)
    for row, found in enumerate(places):
        places_BM[row, : len(found)] = found
    return places_BM


def _encode(tokenizer: Any, sentence: str, row_length: int) -> list[int]:
    vocabulary: Vocabulary = tokenizer.vocabulary
    vocabulary.require("filling masks", "mask", "cls", "sep")
    own = tokenizer.token(vocabulary.mask)
    if MASK not in sentence and own not in sentence:
        raise UserError(f"{sentence!r} has no {MASK} to fill. Write {MASK} where a token is wanted.")
    # The tokenizer knows what a mask does to the spaces around it.
    ids = [vocabulary.cls, *tokenizer.encode_marked(sentence.replace(MASK, own)), vocabulary.sep]
    if len(ids) > row_length:
        raise UserError(f"{sentence[:60]!r}... has {len(ids)} tokens; the model takes at most {row_length}.")
    return ids
