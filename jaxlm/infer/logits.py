"""What a model says at every position. In: texts and a `Loaded`. Out: logits, before any sampling.

Of an encoder logits_TV[t] scores the token at t, of a decoder (of an encoder-decoder too) the one that follows t.
What stands beside a text in its batch does not change its logits.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.infer import frame
from jaxlm.infer.generate import sources
from jaxlm.infer.loaded import Loaded

_TOGETHER = 8  # texts: the logits of 32 rows of 512 tokens and 50,000 entries would be 3 GB


@dataclasses.dataclass(frozen=True)
class Scored:
    """A text as the model reads it, special tokens included, and its logits."""

    ids_T: np.ndarray  # int32
    logits_TV: np.ndarray  # float32; V is the model's, which may have more entries than its tokenizer


def logits(ready: Loaded, texts: Sequence[str], answers: Sequence[str] | None = None) -> list[Scored]:
    """One for every text; an encoder-decoder reads `texts` and scores `answers`, one each.

    UserError for a model that scores no tokens, and a text longer than it reads.
    """
    kind = ready.model.config.kind
    ready.require(
        "logits", ("encoder", "decoder", "encoder_decoder"), ("tokens",) if kind == "encoder" else ()
    )
    if (answers is not None) != (kind == "encoder_decoder") or len(answers or texts) != len(texts):
        raise UserError(
            "answers: one for every text of an encoder-decoder, whose decoder reads them; none for other models."
        )
    rows, batches = _rows(ready, texts, answers)
    if batches is None:
        found = of_rows(ready, rows)
    else:
        _check(ready, rows)
        with jax.set_mesh(ready.mesh):
            found = [one[0] for one in jax.device_get([_logits(ready.module, batch) for batch in batches])]
        found = _cut(ready, rows, found)
    return [Scored(np.array(row, np.int32), one) for row, one in zip(rows, found, strict=True)]


def of_rows(ready: Loaded, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """logits_TV of rows of ids, special ones included, float32. UserError for a row longer than the model reads."""
    _check(ready, rows)
    return _cut(ready, rows, ready.by_row(_logits, rows, batch_size=_TOGETHER))


def _check(ready: Loaded, rows: Sequence[Sequence[int]]) -> None:
    for row in rows:
        ready.model.config.check_row_length(len(row), "model")


def _cut(ready: Loaded, rows: Sequence[Sequence[int]], found: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Without padding."""
    size = ready.model.config.vocab_size  # behind it is padding
    return [one[: len(row), :size].astype(np.float32) for row, one in zip(rows, found, strict=True)]


def _rows(ready: Loaded, texts: Sequence[str], answers: Sequence[str] | None) -> tuple[list[list[int]], Any]:
    """Ids of what is scored, and of an encoder-decoder a batch for each."""
    encode, vocabulary = ready.tokenizer.encode_marked, ready.tokenizer.vocabulary
    if ready.model.config.kind == "encoder":
        vocabulary.require("logits", "cls", "sep")
        return [[vocabulary.cls, *encode(text), vocabulary.sep] for text in texts], None
    framed = frame.of_loaded(ready)
    if answers is None:
        return [[*framed.before, *encode(text)] for text in texts], None
    rows = [[*framed.start, *encode(answer)] for answer in answers]
    read = [[*framed.before, *encode(text), *framed.after] for text in texts]
    return rows, [_answer(ready, sources([text], framed), row) for text, row in zip(read, rows, strict=True)]


def _answer(ready: Loaded, batch: Batch, row: Sequence[int]) -> Batch:
    """The source of `batch`, and the answer that its decoder reads, on the devices."""
    repeat = lambda x: np.repeat(np.asarray(x), ready.height(1), axis=0)
    return ready.split(
        jax.tree.map(
            repeat,
            dataclasses.replace(
                batch,
                tokens_BT=np.array([row], np.int32),
                segments_BT=np.ones((1, len(row)), np.int32),
                positions_BT=np.arange(len(row), dtype=np.int32)[None],
            ),
        )
    )


@jax.jit
def _logits(model: Any, batch: Batch) -> jax.Array:
    return model.predict_tokens(model.encode(batch, None).x_BTD)
