"""What a new run can be refused for before anything is tokenised. In: its program. Out: nothing, or a UserError.

Tokenising takes minutes to hours; these checks take milliseconds. What only the tokenised text can tell (how many
pieces a corpus has, how many documents a split gets) is told afterwards, by `inputs.text`.
"""

import dataclasses
import itertools
from typing import Any

import jax

from jaxlm.batch import Vocabulary
from jaxlm.config import Run
from jaxlm.data import tokenizer
from jaxlm.data.corpus import corpus, readers
from jaxlm.data.corpus.corpus import Corpus, Files
from jaxlm.data.corpus.parted import Parted
from jaxlm.data.places import default_cache
from jaxlm.errors import UserError
from jaxlm.evaluate import held_out
from jaxlm.evaluate.early_stopping import EarlyStopping
from jaxlm.run import streams
from jaxlm.run.program import Program

# Enough for any tokenizer to be trained on, whose special tokens are those of a trained one.
_TEXT = """The quick brown fox jumps over the lazy dog. Does it really? Yes! Pack my box with five dozen liquor jugs,
then sphinx of black quartz, judge my vow: how vexingly quick daft zebras jump. Waltz, bad nymph, for quick jigs vex."""
_PIECES = 60  # of a SentencePiece model of that text, without sentinels
_FILES = 100  # whose first records are looked at


def check(program: Program) -> None:
    """UserError for a corpus that cannot be read, a tokenizer that does not fit, and a best metric that is none."""
    run = program.run
    tasks = streams.tasks(run)
    datas = [run.data, *(task.data for task in tasks if task.data is not None)]
    for one in {repr(one): one for data in datas for one in data.corpora().values()}.values():
        _check_corpus(one)
    main = next(iter(run.data.corpora().values()))
    if corpus.is_prepared(main.source):
        return  # which has its tokenizer
    _check_size(run)
    vocabulary = _vocabulary(run.tokenizer)
    for task in tasks:
        task.objective.check(vocabulary)
        for i, stage in enumerate(run.stages):
            task.objective.check_length(stage.length, vocabulary, f"config.stages[{i}].length")
    _check_best_metric(program, vocabulary)


def _check_corpus(one: Corpus) -> None:
    """Its files are there, and the first record of each is one."""
    if one.reader is not None:
        return
    if not one.source:
        raise UserError(
            "config.data.corpus is empty: say what to train on. Fix: --config.data.corpus=FILE, a text file, .csv, "
            ".jsonl or .parquet, or a folder of these; --config.data.corpus=builtin:pydocs needs no file."
        )
    if corpus.is_prepared(one.source) or one.source.partition(":")[0] in ("builtin", "tfds", "hf"):
        return
    opened = corpus.open_source(one, default_cache())
    for source in opened.sources.values() if isinstance(opened, Parted) else (opened,):
        for file in itertools.islice(source.files, _FILES) if isinstance(source, Files) else ():
            next(readers.read(file.path, one.wanted), None)


def _check_size(run: Run) -> None:
    asked, room = getattr(run.tokenizer, "vocab_size", 0), run.model.vocab_size
    if asked > room:
        raise UserError(
            f"config.tokenizer.vocab_size={asked}, and the model has config.model.vocab_size={room}: every token needs "
            f"its entry. Fix: --config.model.vocab_size={asked}, or --config.tokenizer.vocab_size={room}."
        )


def _check_best_metric(program: Program, vocabulary: Vocabulary) -> None:
    run, keep = program.run, program.run.checkpoint.keep
    if keep.best_metric == "eval/loss" or run.evaluators:  # which know their names when they are started
        return
    batches = program.batches(run.stages[0], vocabulary)
    measures = jax.eval_shape(program.eval_step(), program.state.params, program.frozen, batches)
    sources = [name for task in streams.tasks(run) for name in (task.data or run.data).corpora()]
    EarlyStopping(keep, run.evaluation.patience).check(held_out.names(measures, sources))


def _vocabulary(config: Any) -> Vocabulary:
    """With the special tokens that the run's tokenizer will have; of one that exists, its own."""
    few = config
    if isinstance(
        config, tokenizer.Unigram | tokenizer.Bpe
    ):  # which have as many pieces as they are asked for
        few = dataclasses.replace(config, vocab_size=_PIECES + config.sentinels)
    return few.make([_TEXT] * 5).vocabulary
