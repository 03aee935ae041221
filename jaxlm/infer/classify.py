"""Classes of texts. In: items of one or two texts, a classifier. Out: of each the probability of every label.

An item is laid out as in training, alone in its row: what is packed with others there gets the same answer.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.data.rows.texts import longest_first
from jaxlm.errors import UserError
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.classification import Classification


def classify(
    predictor: Predictor, objective: Classification, items: Sequence[Sequence[str]], *, batch_size: int = 32
) -> list[np.ndarray]:
    """The probabilities [K] of every item. UserError for an item of another number of texts."""
    if wrong := [item for item in items if len(item) != objective.texts]:
        raise UserError(f"an item of {len(wrong[0])} texts, and the model was trained on {objective.texts}.")
    flat = predictor.tokenizer.encode_batch([text for item in items for text in item])
    lengths = np.array([len(ids) for ids in flat]).reshape(-1, objective.texts)
    kept = longest_first(lengths, objective.max_tokens).reshape(-1)
    vocabulary, rows = predictor.tokenizer.vocabulary, []
    for at in range(0, len(flat), objective.texts):
        texts = [flat[i][: kept[i]].tolist() for i in range(at, at + objective.texts)]
        rows.append([vocabulary.cls, *(id for text in texts for id in (*text, vocabulary.sep))])
    return predictor.by_row(
        lambda module, batch: _shares(module, batch, vocabulary.sep), rows, batch_size=batch_size
    )


@jax.jit
def _shares(module: Any, batch: Batch, sep: int) -> jax.Array:
    """The softmax over classes of the one item of every row."""
    ends_BT = (batch.tokens_BT == sep).astype(jnp.int32)
    types_BT = jnp.where(batch.segments_BT > 0, jnp.cumsum(ends_BT, axis=1) - ends_BT, 0)
    x_BTD = module.encode(dataclasses.replace(batch, types_BT=types_BT), None).x_BTD
    return jax.nn.softmax(module.classify(x_BTD[:, :1]))[:, 0]
