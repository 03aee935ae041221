"""Embeddings of texts. In: texts and an encoder. Out: one vector per text, of length 1, and their cosines.

Texts are encoded in batches of similar length, so that little is padding; what stands beside a text in its batch does
not change its vector. A text longer than a row is cut off at its end.
"""

import functools
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.infer.predict import Predictor
from jaxlm.objectives import embeddings


def embed(
    predictor: Predictor,
    texts: Sequence[str],
    *,
    pooling: embeddings.Pooling,
    row_length: int | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """[texts, D], float32, vectors of length 1 in the order of the texts.

    `row_length` cuts texts off before the predictor's. UserError when the tokenizer has neither [SEP] nor eos.
    """
    ids = predictor.tokenizer.encode_batch(list(texts))
    return of_ids(predictor, ids, pooling=pooling, row_length=row_length, batch_size=batch_size)


def of_ids(
    predictor: Predictor,
    texts: Sequence[np.ndarray],
    *,
    pooling: embeddings.Pooling,
    row_length: int | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """The same of texts that are ids already, without special tokens around them."""
    vocabulary = predictor.tokenizer.vocabulary
    vocabulary.require_end("embedding texts")
    longest = min(row_length or predictor.row_length, predictor.row_length) - vocabulary.overhead(1, 1)
    ids = [text[:longest] for text in texts]
    vectors = predictor.by_row(
        functools.partial(encode, pooling=pooling),
        [vocabulary.framed(text).tolist() for text in ids],
        batch_size=batch_size,
    )
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


@functools.partial(jax.jit, static_argnames="pooling")
def encode(model: Any, batch: Batch, *, pooling: embeddings.Pooling) -> jax.Array:
    """A vector of length 1 for every row."""
    first_BC = jnp.zeros((batch.tokens_BT.shape[0], 1), jnp.int32)  # one text a row
    _, e_BCD = embeddings.of_items(model, batch, None, first_BC, pooling)
    return embeddings.unit(e_BCD[:, 0])


def stacked(parts: Callable[[], Iterator[pathlib.Path]], to: pathlib.Path) -> None:
    """One .npy file of several, one beneath the other, as numpy saves the whole: one of them is in memory."""
    counts, width, last = [], 0, to.with_name(f"{to.name}.rows")
    try:
        with last.open("wb") as out:
            for path in parts():
                vectors = np.load(path)
                counts, width = [*counts, len(vectors)], vectors.shape[1]
                out.write(np.ascontiguousarray(vectors, np.float32).tobytes())
        with to.open("wb") as out, last.open("rb") as rows:
            about = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False}
            np.lib.format.write_array_header_1_0(out, {**about, "shape": (sum(counts), width)})
            shutil.copyfileobj(rows, out)
    finally:
        last.unlink(missing_ok=True)


def cosines(vectors: np.ndarray) -> np.ndarray:
    """[texts, texts]: of every vector with every other; they have length 1."""
    return (vectors.astype(np.float64) @ vectors.T.astype(np.float64)).astype(np.float32)


def table(texts: Sequence[str], vectors: np.ndarray) -> str:
    """The cosines as text: a line per text."""
    between = cosines(vectors)
    width = min(max((len(text) for text in texts), default=0), 48)
    return "\n".join(
        f"{text[:48]:<{width}}  " + "  ".join(f"{value:7.4f}" for value in line)
        for text, line in zip(texts, between, strict=True)
    )
