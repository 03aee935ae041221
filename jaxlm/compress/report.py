"""What a compression costs and gains: one table. In: the model before and after, data of the user. Out: lines, JSON.

Quality: on a table what the model is for, on a text how well it foresees it or, of an encoder, how alike the vectors of
its lines are before and after; all with 95 % intervals. Speed: seconds of one compiled forward pass.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.compress.rounding import size_of
from jaxlm.data.corpus import lines, readers
from jaxlm.errors import UserError
from jaxlm.infer import text_reading
from jaxlm.infer.loaded import Loaded
from jaxlm.models.values import is_value
from jaxlm.tasks import of
from jaxlm.tasks import table as tables
from jaxlm.tasks.setup import Setup

_LINES = 512  # of a text, for vectors
_ROWS, _TOKENS, _TIMES = 8, 128, 5  # of the pass whose speed is measured
# Metrics of which less is better
_LOWER = {"perplexity", "nll", "bits_per_byte", "brier", "ece", "mse", "mae", "wer", "ter"}
_ANSWER = 64  # tokens at most of what a model writes for a table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one model."""

    bytes: int  # of its weights, as they are kept on disk
    seconds: float  # of a forward pass of 8 rows of 128 tokens, the least of 5
    metrics: Mapping[str, tuple[float, float, float]]  # name -> value and interval
    answers: Any = None  # what differences are computed from

    def to_json(self) -> dict[str, Any]:
        """Without the answers."""
        return {"bytes": self.bytes, "seconds": self.seconds, "metrics": dict(self.metrics)}


def measured(model: Loaded, data: str) -> Measured:
    """`data`: a table that the model answers, or a text; "": size and speed alone."""
    metrics, answers = _quality(model, data) if data else ({}, None)
    size = sum(size_of(leaf) for leaf in jax.tree.leaves(model.params, is_leaf=is_value))
    return Measured(bytes=size, seconds=_seconds(model), metrics=metrics, answers=answers)


def _quality(model: Loaded, data: str) -> tuple[dict[str, tuple[float, float, float]], Any]:
    kind = model.model.config.kind
    if readers.is_table(data):
        task = of.of(model, max_new_tokens=_ANSWER)
        found = tables.answered(task, (record for record, _ in tables.rows(task, data)))
    elif kind == "decoder":
        task = of.of(model, max_new_tokens=_ANSWER, setup=Setup(task="perplexity"))
        found = tables.answered(task, (record for record, _ in tables.rows(task, data)))
    elif kind == "encoder":
        texts = [line.strip() for _, line in lines.numbered(data) if line.strip()][:_LINES]
        return {}, text_reading.vectors(model, texts)[0]
    else:
        raise UserError(
            f"--data={data}: {type(model.model.config).__name__} is measured on a table (.csv, .jsonl)."
        )
    return {name: (one.value, one.low, one.high) for name, one in found.measured().metrics.items()}, found


def _seconds(model: Loaded) -> float:
    """Of a pass, compiled."""
    length = min(_TOKENS, model.row_length)
    tokens = np.arange(_ROWS * length, dtype=np.int32).reshape(_ROWS, length) % model.model.config.vocab_size
    batch = Batch.full(tokens, tokens if model.model.config.kind == "encoder_decoder" else None)
    with jax.set_mesh(model.mesh):
        batch = model.split(batch)
        program = jax.jit(lambda module, batch: module.encode(batch, None).x_BTD)
        jax.block_until_ready(program(model.module, batch))
        found = []
        for _ in range(_TIMES):
            start = time.perf_counter()
            jax.block_until_ready(program(model.module, batch))
            found.append(time.perf_counter() - start)
    return min(found)


def told(before: Measured, after: Measured) -> str:
    """The table."""
    rows = [("", "before", "after", "")]
    rows.append(("weights", _mb(before.bytes), _mb(after.bytes), f"{after.bytes / before.bytes:.2f} x"))
    speed = before.seconds / after.seconds
    rows.append(
        (
            "forward pass, 8 x 128",
            f"{before.seconds:.3f} s",
            f"{after.seconds:.3f} s",
            f"{speed:.2f} x as fast",
        )
    )
    for name, (value, low, high) in before.metrics.items():
        now = after.metrics[name]
        rows.append(
            (name, f"{value:.4f} [{low:.4f}, {high:.4f}]", f"{now[0]:.4f} [{now[1]:.4f}, {now[2]:.4f}]", "")
        )
    if isinstance(before.answers, np.ndarray):
        mean, low, high, worst = alike(before.answers, after.answers)
        rows.append(
            ("vectors: mean cosine", "1", f"{mean:.5f} [{low:.5f}, {high:.5f}]", f"worst {worst:.5f}")
        )
    return "\n".join([_lined(rows), *_differences(before, after)])


def _differences(before: Measured, after: Measured) -> list[str]:
    """After less before, item by item, where the metrics are of items."""
    if not isinstance(before.answers, tables.Answered):
        return []
    try:
        found = tables.compared(after.answers, before.answers)
    except UserError:
        return []
    return ["difference, paired:", *(f"  {name}  {one}" for name, one in found.items())]


def alike(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float, float]:
    """(mean, low, high, worst) of the cosines of two models' vectors, of length 1; the interval is of a bootstrap."""
    each = (before.astype(np.float64) * after).sum(-1)
    rng = np.random.default_rng(0)
    drawn = [each[rng.integers(len(each), size=len(each))].mean() for _ in range(1000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(each.mean()), float(low), float(high), float(each.min())


def judged(before: Measured, after: Measured) -> tuple[str, tuple[float, float, float], bool]:
    """What several models of one are compared by: (its name, value and interval, whether more is better).

    The cosines of vectors, or the first metric; without data the seconds of a pass.
    """
    if isinstance(before.answers, np.ndarray):
        return "mean cosine", alike(before.answers, after.answers)[:3], True
    if not after.metrics:
        return "seconds of a forward pass", (after.seconds, after.seconds, after.seconds), False
    name = next(iter(after.metrics))
    return name, after.metrics[name], name not in _LOWER


def compared(before: Measured, after: Mapping[str, Measured]) -> str:
    """A line for each of several models made of one."""
    rows = [("", "weights", "forward pass", judged(before, before)[0])]
    for name, one in {"as it was": before, **after}.items():
        _, (value, low, high), _ = judged(before, one)
        size = f"{_mb(one.bytes)} ({one.bytes / before.bytes:.2f} x)"
        speed = f"{one.seconds:.3f} s ({before.seconds / one.seconds:.2f} x as fast)"
        rows.append((name, size, speed, f"{value:.5g} [{low:.5g}, {high:.5g}]"))
    return _lined(rows)


def _lined(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lined = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lined)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
