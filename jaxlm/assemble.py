"""From a Run to the parts that train it. In: the config. Out: corpus, rows, precision, model facts.

Shared by training, the benchmark and the tools, so that all of them see the same rows and the same model.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import numpy as np

from jaxlm.batch import Batch, Vocabulary
from jaxlm.checkpoint.store import open_run
from jaxlm.config import Run, Stage, flags
from jaxlm.data import draws, feed, pipeline, prepare, shards
from jaxlm.data.corpus import Corpus
from jaxlm.data.rows import Rows
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError
from jaxlm.optim import ema as averages
from jaxlm.partition.state import batch_sharding
from jaxlm.runtime import distributed
from jaxlm.runtime.compilation import cache_folder
from jaxlm.step import TrainState

Split = Literal["train", "validation"]


@dataclasses.dataclass(frozen=True)
class Text:
    """The tokenised corpus of a run."""

    tokenizer: Tokenizer
    vocabulary: Vocabulary
    directory: pathlib.Path
    splits: dict[str, shards.Shards]
    cache: pathlib.Path


def text(run: Run, say: Callable[[str], None]) -> Text:
    """Tokenises the corpus, or finds it done. Raises UserError for what is wrong with corpus or tokenizer."""
    cache = pathlib.Path(run.data.cache).expanduser() if run.data.cache else cache_folder()
    corpus = Corpus(
        source=run.data.corpus,
        text_field=run.data.text_field,
        validation_share=run.data.validation_share,
        test_share=run.data.test_share,
    )
    sentences = run.objective.items == "pairs"
    ready = prepare.prepare(corpus, run.tokenizer, sentences=sentences, cache=cache, log=say)
    vocabulary = ready.tokenizer.vocabulary
    if vocabulary.size > run.model.vocab_size:
        raise UserError(
            f"config.model.vocab_size={run.model.vocab_size}, but the tokenizer has {vocabulary.size} tokens. "
            f"Fix: --config.model.vocab_size={vocabulary.size}, or a smaller tokenizer."
        )
    fingerprint = ready.tokenizer.fingerprint
    splits = {
        split: shards.open_shards(
            ready.directory, split, tokenizer_fingerprint=fingerprint, check=run.data.check
        )
        for split in ("train", "validation")
    }
    return Text(ready.tokenizer, vocabulary, pathlib.Path(ready.directory), splits, cache)


def rows(run: Run, text: Text, stage: Stage, split: Split, *, number: int = 0) -> Rows:
    """The packed rows of stage `number`: endless and shuffled for training, one fixed epoch for validation."""
    # Two stages of one row length must not read the same rows in the same order.
    seed = draws.derived_seed(run.seed, f"stage {number}") if number else run.seed
    return pipeline.make_rows(
        run.objective,
        text.splits[split],
        text.vocabulary,
        row_length=stage.length,
        method=run.data.packing,
        seed=seed if split == "train" else run.seed,
        cache=text.cache / "plans",
        train=split == "train",
    )


def train_feed(run: Run, text: Text, rows: Rows, mesh: jax.sharding.Mesh, *, start: int) -> feed.Feed:
    """Global training batches from the stage's batch `start` on, prefetched."""
    sharding = batch_sharding(mesh)
    batches = pipeline.host_batches(
        rows,
        run.objective,
        text.vocabulary,
        batch_size=run.batch_size,
        host_rows=feed.host_rows(sharding, run.batch_size).tolist(),
        start=start,
        seed=rows.seed,
        train=True,
        workers=run.data.workers,
    )
    return feed.Feed(batches, sharding, batch_size=run.batch_size, prefetch=run.data.prefetch)


def evaluation_batches(
    run: Run, text: Text, rows: Rows, mesh: jax.sharding.Mesh | None = None
) -> Iterator[Batch]:
    """The held-out batches, the same every time: global arrays on `mesh`, or numpy without one."""
    size = run.batch_size // run.accumulate
    sharding = None if mesh is None else batch_sharding(mesh)
    batches = pipeline.host_batches(
        rows,
        run.objective,
        text.vocabulary,
        batch_size=size,
        host_rows=range(size) if sharding is None else feed.host_rows(sharding, size).tolist(),
        start=0,
        seed=run.seed,
        train=False,
        limit=run.evaluation.rows,
    )
    if sharding is None:
        yield from batches
        return
    with feed.Feed(batches, sharding, batch_size=size) as ready:
        yield from ready


def precision(run: Run) -> Literal["float32", "bfloat16"]:
    """The dtype of compute: `auto` is bfloat16 where the hardware has it fast (TPU, GPU), else float32."""
    if run.precision != "auto":
        return run.precision
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def dropout_generator(run: Run) -> str:
    """`auto`: rbg on TPU, where threefry is slow and, compiled ahead of time, crashes libtpu; else threefry2x32."""
    if run.dropout_generator != "auto":
        return run.dropout_generator
    return "rbg" if jax.default_backend() == "tpu" else "threefry2x32"


def warm_start(
    run: Run, state: TrainState, like: TrainState, text: Text, say: Callable[[str], None]
) -> TrainState:
    """The new state with the weights of the run folder `init_from`. UserError when tokenizer or shapes differ."""
    folder = flags.local_folder(run.init_from, "config.init_from")
    source, step = open_run(folder, say=say)
    step = distributed.from_main(step)  # the source may still be training: all hosts take one step
    theirs = source.meta(step)["fingerprints"]["tokenizer"]
    if theirs != text.tokenizer.fingerprint:
        raise UserError(
            f"config.init_from={run.init_from} was trained with another tokenizer ({theirs[:16]}; this run has "
            f"{text.tokenizer.fingerprint[:16]}). Fix: --config.tokenizer of that run, e.g. "
            f'tokenizer=Pretrained(path="{run.init_from}/tokenizer").'
        )
    part = "ema" if source.meta(step)["config"]["ema_decay"] else "params"
    params = source.restore_params(step, like.params, part=part)
    say(f"weights from step {step} of {run.init_from}")
    return dataclasses.replace(state, params=params, ema=None if state.ema is None else averages.init(params))


def unigram_counts(text: Text, limit: int = 50_000_000) -> np.ndarray:
    """counts_V of the training split, from its first `limit` tokens."""
    from jaxlm.objectives.unigram import count_tokens

    train = text.splits["train"]
    last = int(np.searchsorted(np.cumsum(train.lengths, dtype=np.int64), limit)) + 1
    last = min(last, len(train))
    blocks = (range(k, min(k + 1024, last)) for k in range(0, last, 1024))
    return count_tokens(
        (tokens for block in blocks for tokens in train.__getitems__(block)), text.vocabulary.size
    )


def memory_capacity() -> int | None:
    """Bytes of memory of one device; on a CPU the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if jax.default_backend() == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def memory_estimate(compiled: Any) -> int | None:
    """Bytes per device that a compiled step needs: arguments and temporaries; donated outputs cost nothing."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + max(new, 0)
