"""How two marked parts of a text are related. In: texts with markers in them. Out: the probability of every label.

A text is laid out as in training, alone in its row: what is packed with others there gets the same answer.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.infer import classify
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.relations import Relations


def relate(
    predictor: Predictor,
    objective: Relations,
    texts: Sequence[str],
    markers: tuple[str, str],
    *,
    batch_size: int = 32,
) -> list[np.ndarray]:
    """The probabilities [K] of every text; `markers`: what stands before each of the two, once in every text."""
    vocabulary = predictor.tokenizer.vocabulary
    begin, _ = vocabulary.marks
    rows, places = [], []
    for text, (ids, offsets) in zip(
        texts, predictor.tokenizer.encode_batch_with_offsets(list(texts)), strict=True
    ):
        rows.append(vocabulary.framed(ids[: objective.max_tokens]).tolist())
        first = np.searchsorted(offsets[:, 1], [text.index(marker) for marker in markers], side="right")
        # One that was cut off is read at the first token of all, as in training.
        places.append(np.where(first < objective.max_tokens, first + len(begin), 0))
    found = predictor.by_row(halves, rows, batch_size=batch_size)
    return [
        classify.shares(np.asarray(of_first_TK)[one] + np.asarray(of_second_TK)[other])
        for (of_first_TK, of_second_TK), (one, other) in zip(found, places, strict=True)
    ]


@jax.jit
def halves(module: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """What every token adds to the logits as the first of the two, and as the second."""
    head, x_BTD = module.heads["relations"], module.encode(batch, None).x_BTD.astype(jnp.float32)
    first_DK, second_DK = jnp.split(head.w[...], 2)
    return x_BTD @ first_DK + head.b[...], x_BTD @ second_DK
