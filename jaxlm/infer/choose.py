"""Which choice goes with a question. In: items of a question and its choices. Out: the probability of each choice.

The choices of an item are rows of their own, laid out as in training: one alone gets the same number as packed.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch, Vocabulary
from jaxlm.errors import UserError
from jaxlm.infer import classify
from jaxlm.infer.predict import Predictor
from jaxlm.objectives import multiple_choice
from jaxlm.objectives.multiple_choice import MultipleChoice


def choose(
    predictor: Predictor, objective: MultipleChoice, items: Sequence[Sequence[str]], *, batch_size: int = 32
) -> list[np.ndarray]:
    """The probabilities [choices] of every item. UserError for an item of another number of texts."""
    if wrong := [item for item in items if len(item) != 1 + objective.choices]:
        raise UserError(
            f"an item of {len(wrong[0])} texts, and the model takes a question and {objective.choices} choices."
        )
    pairs = [(question, choice) for question, *choices in items for choice in choices]
    vocabulary = predictor.tokenizer.vocabulary
    each = predictor.by_row(
        functools.partial(_judged, vocabulary=vocabulary),
        classify.laid_out(predictor, pairs, 2, objective.max_tokens),
        targets=functools.partial(classify.nothing_known, vocabulary=vocabulary),
        batch_size=batch_size,
    )
    return [classify.shares(logits_K) for logits_K in np.array(each).reshape(-1, objective.choices)]


def _judged(module: Any, batch: Batch, *, vocabulary: Vocabulary) -> jax.Array:
    """With the types of tokens."""
    return _numbers(module, classify.typed(batch, vocabulary))


@jax.jit
def _numbers(module: Any, batch: Batch) -> jax.Array:
    """Of the one choice of every row."""
    return multiple_choice.judge(module, batch, None, 1)["choice"]()[:, 0, 0]
