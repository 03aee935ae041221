"""From a Run to what it reads. In: the config. Out: tokenised corpora, rows, feeds, evaluation batches.

Shared by training, the benchmark and the tools, so that all of them see the same rows.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import jax

from jaxlm.batch import Batch, Batches, Vocabulary
from jaxlm.cached import Cache
from jaxlm.config import Run, Stage, excluded
from jaxlm.data import draws, feed, pipeline
from jaxlm.data.places import cache_folder, expanded
from jaxlm.data.rows import mixture
from jaxlm.data.rows.rows import Rows
from jaxlm.data.shards import handed, prepare, shards, trained
from jaxlm.data.tokenizer import Pretrained, Tokenizer
from jaxlm.errors import UserError
from jaxlm.objectives.multi_task import Task
from jaxlm.partition.state import batch_sharding
from jaxlm.run import streams
from jaxlm.run.streams import Stream, StreamRows

Split = Literal["train", "validation", "test"]


@dataclasses.dataclass(frozen=True)
class Text:
    """The tokenised corpora of a run, and what reads them: one stream per task."""

    tokenizer: Tokenizer
    vocabulary: Vocabulary
    directory: pathlib.Path  # of the run's main corpus, with the tokenizer's files
    cache: Cache
    streams: tuple[Stream, ...]


def text(run: Run, say: Callable[[str], None], hosts: handed.Hosts | None = None) -> Text:
    """Tokenises the corpora, or finds it done; `hosts` that share no cache do it once, together.

    Raises UserError for what is wrong with corpus or tokenizer.
    """
    root = cache_folder(run.data.cache)
    cache = Cache(root, say)
    tasks = streams.tasks(run)
    with handed.all_or_none(hosts):
        ready = _prepared(run, tasks, root, say, hosts)
    main = ready[repr(next(iter(run.data.corpora().values())))]
    tokenizer = main.tokenizer
    vocabulary = tokenizer.vocabulary
    if vocabulary.size > run.model.vocab_size:
        raise UserError(
            f"config.model.vocab_size={run.model.vocab_size}, but the tokenizer has {vocabulary.size} tokens. "
            f"Fix: --config.model.vocab_size={vocabulary.size}, or a smaller tokenizer."
        )
    used = [corpus for task in tasks for corpus in (task.data or run.data).corpora().values()]
    if not all(corpus.holds_out("validation") for corpus in used):
        say(
            "WARNING: validation_share=0: nothing is held out, so evaluations read documents that are trained on"
        )
    opened = {name: _splits(one, run.data.check) for name, one in ready.items()}
    made = [_stream(run, task, opened, vocabulary, cache) for task in tasks]
    return Text(tokenizer, vocabulary, main.directory, cache, tuple(made))


def _splits(ready: prepare.Prepared, check: shards.Check) -> dict[str, shards.Shards]:
    fingerprint = ready.tokenizer.fingerprint
    opened = {
        split: shards.open_shards(ready.directory, split, tokenizer_fingerprint=fingerprint, check=check)
        for split in ("train", "validation", "test")
        if split in ready.index["splits"]
    }
    return {"validation": opened["train"], **opened}


def _stream(
    run: Run,
    task: Task,
    opened: Mapping[str, dict[str, shards.Shards]],
    vocabulary: Vocabulary,
    cache: Cache,
) -> Stream:
    data = task.data or run.data
    sources = {name: opened[repr(corpus)] for name, corpus in data.corpora().items()}
    train = mixture.joined([splits["train"] for splits in sources.values()])
    task.objective.check(vocabulary)
    for i, stage in enumerate(run.stages):
        task.objective.check_length(stage.length, vocabulary, f"config.stages[{i}].length")
    return Stream(
        task=dataclasses.replace(task, objective=task.objective.fit(train, vocabulary, cache)),
        data=data,
        seed=streams.stream_seed(run, task),
        sources=sources,
    )


def _prepared(
    run: Run,
    tasks: tuple[Task, ...],
    cache: pathlib.Path,
    say: Callable[[str], None],
    hosts: handed.Hosts | None,
) -> dict[str, prepare.Prepared]:
    """The shards of every corpus of the run, once each; the tokenizer is that of its main corpus or mixture."""
    used = [(run.data, False), *((task.data or run.data, task.objective.needs_sentences) for task in tasks)]
    asked = [(corpus, data, needed) for data, needed in used for corpus in data.corpora().values()]
    config, ready, mixed = run.tokenizer, {}, run.data.mixture
    if mixed is not None:
        config = trained.of_corpora([s.corpus for s in mixed.shares], mixed.weights, config, cache, say)
    for corpus, data, _ in asked:
        name = repr(corpus)
        if name in ready:
            continue
        ready[name] = prepare.prepare(
            corpus,
            config,
            sentences=any(needed for other, _, needed in asked if repr(other) == name),
            cache=expanded(data.cache) if data.cache else cache,
            log=say,
            hosts=hosts,
        )
        config = Pretrained(path=str(ready[name].directory))
    return ready


def rows(run: Run, text: Text, stage: Stage, split: Split, *, number: int = 0) -> tuple[StreamRows, ...]:
    """The packed rows of stage `number`: endless and shuffled for training, one fixed epoch for the other splits.

    One of every stream; held-out rows of a mixture are one of every source. UserError for a split that a corpus lacks.
    """
    if any(split not in splits for stream in text.streams for splits in stream.sources.values()):
        raise UserError(f"there is no {split} split. A run with --config.data.{split}_share=0.01 has one.")
    if split == "train":
        passed = excluded.batches(run.exclude, run.stage_steps()[number][0])
        made = [_train_rows(text, stream, stage, number) for stream in text.streams]
        return tuple(dataclasses.replace(read, stage=number, excluded=passed) for read in made)
    return tuple(
        StreamRows(stream, _rows(text, stream, stage, split, source, stream.seed), source)
        for stream in text.streams
        for source in stream.sources
    )


def _train_rows(text: Text, stream: Stream, stage: Stage, number: int) -> StreamRows:
    # Two stages of one row length must not read the same rows in the same order.
    seed = draws.derived_seed(stream.seed, f"stage {number}") if number else stream.seed
    # Nor two sources of a mixture.
    seeds = {name: draws.derived_seed(seed, f"source {name}") if name else seed for name in stream.sources}
    found = {name: _rows(text, stream, stage, "train", name, seeds[name]) for name in stream.sources}
    mixed = stream.data.mixture
    if mixed is None:
        return StreamRows(stream, found[""])
    weights = mixed.weights([len(rows) for rows in found.values()])
    epochs = [share.epochs for share in mixed.shares]
    return StreamRows(stream, mixture.Mixed(found, weights, epochs, seed=seed))


def _rows(text: Text, stream: Stream, stage: Stage, split: Split, source: str, seed: int) -> Rows:
    return pipeline.make_rows(
        stream.objective,
        stream.sources[source][split],
        text.vocabulary,
        row_length=stage.length,
        method=stream.data.packing,
        seed=seed,
        cache=text.cache,
        train=split == "train",
    )


def train_feed(
    text: Text,
    rows: Sequence[StreamRows],
    mesh: jax.sharding.Mesh,
    *,
    start: int,
    taken: Callable[[int], None] = lambda digest: None,
) -> streams.Feeds:
    """Global training batches from the stage's batch `start` on, prefetched. `taken`: see streams.Feeds."""
    return streams.Feeds([(r.stream, _train_feed(text, r, mesh, start)) for r in rows], taken)


def _train_feed(text: Text, read: StreamRows, mesh: jax.sharding.Mesh, start: int) -> feed.Feed:
    sharding, stream = batch_sharding(mesh), read.stream
    batches = pipeline.host_batches(
        read.rows,
        stream.objective,
        text.vocabulary,
        batch_size=stream.batch_rows,
        host_rows=feed.host_rows(sharding, stream.batch_rows).tolist(),
        start=start,
        seed=read.rows.seed,
        train=True,
        workers=stream.data.workers,
        label=read.label,
        excluded=read.excluded,
    )
    return feed.Feed(batches, sharding, batch_size=stream.batch_rows, prefetch=stream.data.prefetch)


def first_rows(text: Text, read: StreamRows, *, start: int, most: int) -> Batch:
    """At most so many rows of the stage's batch `start`, as numpy: the same on every host."""
    batches = pipeline.host_batches(
        read.rows,
        read.stream.objective,
        text.vocabulary,
        batch_size=read.stream.batch_rows,
        host_rows=range(min(read.stream.batch_rows, most)),
        start=start,
        seed=read.rows.seed,
        train=True,
        excluded=read.excluded,
    )
    with contextlib.closing(batches):
        return next(batches)


def evaluation_batches(
    run: Run,
    text: Text,
    rows: Sequence[StreamRows],
    mesh: jax.sharding.Mesh | None = None,
    *,
    limit: int | None = None,
) -> Iterator[Batches]:
    """The held-out batches, task after task, the same every time: global arrays on `mesh`, or numpy without one.

    At most `limit` rows of each task, 0: all; the run's own limit unless given.
    """
    for read in rows:
        size = read.stream.batch_rows // run.accumulate
        sharding = None if mesh is None else batch_sharding(mesh)
        batches = pipeline.host_batches(
            read.rows,
            read.stream.objective,
            text.vocabulary,
            batch_size=size,
            host_rows=range(size) if sharding is None else feed.host_rows(sharding, size).tolist(),
            start=0,
            seed=read.stream.seed,
            train=False,
            limit=run.evaluation.rows if limit is None else limit,
        )
        if sharding is None:
            yield from ({read.stream.name: batch} for batch in batches)
            continue
        with feed.Feed(batches, sharding, batch_size=size) as ready:
            yield from ({read.stream.name: batch} for batch in ready)
