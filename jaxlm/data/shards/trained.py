"""The tokenizer that a config trains on a corpus, or on several by their weights. In: corpora. Out: a folder, kept.

Trained on the training splits only, on at most `sample_bytes` of text (the first documents of every file), and found
again by content: the same corpora, weights and config give the same tokenizer.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxlm import cached
from jaxlm.data import tokenizer
from jaxlm.data.corpus import corpus, steps
from jaxlm.data.places import disk_errors
from jaxlm.data.shards import index
from jaxlm.errors import UserError

# Part of every key: raise it when the same corpus gives other tokens. (The format of the index does not decide them.)
IDENTITY = 1

Log = Callable[[str], None]
Opened = tuple[corpus.Source, corpus.Corpus]


def identity(source: corpus.Source, text: corpus.Corpus) -> str:
    """Of a corpus as it is tokenised: its content, splits and steps."""
    groups = [text.wanted.grouped_by] if text.wanted.grouped_by else []
    done = [steps.describe(text.steps)] if text.steps else []
    moved = [{"moved": text.moved}] if text.moved else []
    shares = [text.share("validation"), text.share("test")]
    return index.digest([IDENTITY, source.identity(), *shares, *groups, *done, *moved])


def of_corpora(
    corpora: Sequence[corpus.Corpus],
    weights: Callable[[Sequence[float]], Sequence[float]],
    config: tokenizer.TokenizerConfig,
    root: Path,
    log: Log,
) -> tokenizer.TokenizerConfig:
    """One tokenizer for all, to be loaded; the config itself where nothing is trained, or a corpus has its tokens.

    `weights` of the corpora, given their sizes: each gives that share of the sample, or all it has.
    """
    if len(corpora) < 2 or not config.sample_bytes or any(corpus.is_prepared(one.source) for one in corpora):
        return config
    for one in corpora:
        one.validate("corpus")
    config.validate("tokenizer")
    with disk_errors(root):
        opened = [(corpus.open_source(one, root, log), one) for one in corpora]
        shares = weights([max(source.text_bytes(), 1) for source, _ in opened])
        limits = [max(int(config.sample_bytes * share / sum(shares)), 1) for share in shares]
        key = [[identity(*one) for one in opened], tokenizer.describe(config), limits]
        return tokenizer.Pretrained(path=str(_found(opened, limits, config, key, root, log)))


def of_corpus(
    source: corpus.Source, text: corpus.Corpus, config: tokenizer.TokenizerConfig, root: Path, log: Log
) -> tokenizer.Tokenizer:
    """Load a pretrained tokenizer, or find or train the one of this corpus and config."""
    if config.sample_bytes == 0:
        return tokenizer.train(config, ())
    key = [identity(source, text), tokenizer.describe(config), config.sample_bytes]
    return tokenizer.load(_found([(source, text)], [config.sample_bytes], config, key, root, log))


def nothing(text: corpus.Corpus) -> UserError:
    """The refusal of a corpus without a document to train on."""
    return UserError(
        f"corpus {text.name}: holds no documents to train on. Check that the files are not empty (a table has rows "
        f'below its header), that text_field="{", ".join(text.wanted.texts)}" is right, and that the held-out '
        "shares leave some (0: nothing is held out)."
    )


def _found(
    opened: Sequence[Opened],
    limits: Sequence[int],
    config: tokenizer.TokenizerConfig,
    key: Any,
    root: Path,
    log: Log,
) -> Path:
    """The folder of the tokenizer with this key, trained if there is none."""
    described = tokenizer.describe(config)

    def train(folder: Path) -> None:
        log(f"training the tokenizer {config}")
        sample = list(itertools.chain.from_iterable(map(_sample, opened, limits)))
        made = tokenizer.train(config, sample)
        if made.size < described["vocab_size"]:
            log(
                f"the corpus gave {made.size:,} of vocab_size={described['vocab_size']:,} tokens: it has no more pieces"
            )
        made.save(folder)

    digest = index.digest(key)
    name = f"tokenizers/{described['type'].lower()}-{digest[:12]}"
    return cached.Cache(root, log).find(name, digest, train)


def _sample(opened: Opened, limit: int) -> Iterator[str]:
    """About `limit` bytes of the training split of a corpus. UserError when there are none."""
    source, text = opened
    read = steps.Steps(text.steps).run(source.sample(limit))
    texts = (part for record in read if text.split(record) == "train" for part in record.texts)
    first = next(texts, None)
    if first is None:
        raise nothing(text)
    return itertools.chain([first], texts)
