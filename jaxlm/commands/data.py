"""Prepare a corpus ahead of time: text → tokenizer → shards, in a folder that training reads at once.

    jaxlm data --source='data/*.jsonl.gz' --tokenizer=wordpiece:30522:lowercase --output=shards/mine
    jaxlm data --source='data/*.jsonl.gz' --tokenizer=wordpiece:30522:lowercase --output=s3://bucket/mine
    jaxlm data --source=nli.jsonl --text-fields=anchor,positive --tokenizer=bert/vocab.txt --output=shards/nli

Does what training would do on its first run, and may be killed and run again: finished parts are kept. Prints the size
of the corpus, how long its documents are, how much of it the tokenizer does not know, and the config line to use.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from jaxlm import entry, errors
from jaxlm.buckets import copies
from jaxlm.buckets.bucket import is_url
from jaxlm.commands import options as table
from jaxlm.data import tokenizer
from jaxlm.data.corpus import columns, corpus
from jaxlm.data.places import default_cache
from jaxlm.data.shards import index, prepare, shards
from jaxlm.runtime import signals

PERCENTILES = (1, 5, 25, 50, 75, 95, 99, 100)
FORMS = (
    "wordpiece:SIZE:lowercase, wordpiece:SIZE:cased, unigram:SIZE:SENTINELS, bpe:SIZE:SENTINELS, "
    "bytebpe:SIZE:SENTINELS, bytebpe:SIZE:SENTINELS:infill, or the path of a tokenizer"
)


def parse_tokenizer(words: str) -> tokenizer.TokenizerConfig:
    """'wordpiece:30522:lowercase' → WordPiece(...); anything without a known kind in front is a path."""
    kind, *rest = words.split(":")
    if kind not in ("wordpiece", "unigram", "bpe", "bytebpe"):
        return tokenizer.Pretrained(path=words)
    match kind, rest:
        case "wordpiece", [size, "lowercase" | "cased" as case] if size.isdigit():
            return tokenizer.WordPiece(vocab_size=int(size), lowercase=case == "lowercase")
        case "unigram", [size, sentinels] if (size + sentinels).isdigit():
            return tokenizer.Unigram(vocab_size=int(size), sentinels=int(sentinels))
        case "bpe", [size, sentinels] if (size + sentinels).isdigit():
            return tokenizer.Bpe(vocab_size=int(size), sentinels=int(sentinels))
        case "bytebpe", [size, sentinels, *infill] if (size + sentinels).isdigit() and infill in (
            [],
            ["infill"],
        ):
            return tokenizer.ByteBpe(
                vocab_size=int(size), sentinels=int(sentinels), infill="on" if infill else "off"
            )
    raise errors.UserError(f"--tokenizer={words}: allowed: {FORMS}.")


def report(made: prepare.Prepared) -> str:
    """A table: per split documents, tokens, characters, unknown-token rate, percentiles of tokens a document."""
    lines = [
        f"{'split':12}{'documents':>12}{'tokens':>16}{'characters':>16}{'chars/token':>13}{'unknown':>10}{'shards':>8}"
    ]
    lengths = []
    for split, found in made.index["splits"].items():
        unknown = f"{100 * found['unknown_tokens'] / found['tokens']:.3f} %"
        lines.append(
            f"{split:12}{found['documents']:12,}{found['tokens']:16,}{found['characters']:16,}"
            f"{found['characters'] / found['tokens']:13.2f}{unknown:>10}{len(found['shards']):8}"
        )
        opened = shards.open_shards(made.directory, split, tokenizer_fingerprint=made.tokenizer.fingerprint)
        values = " ".join(f"{name}%:{value:,.0f}" for name, value in _percentiles(opened.lengths))
        lengths.append(f"{split:12}tokens a document: {values}")
        if found["sentences"]:
            lengths.append(f"{'':12}sentences: {found['sentences']:,}")
    for field, names in made.index["columns"].items():
        lengths.append(f"{field}: {'numbers' if names is None else f'{len(names):,} labels'}")
    for step in made.index["steps"]:
        lengths.append(
            f"{step['step']}: {step['kept']:,} kept, {step['changed']:,} changed, {step['dropped']:,} dropped"
        )
    return "\n".join([*lines, "", *lengths])


def _percentiles(lengths: np.ndarray) -> list[tuple[int, float]]:
    return list(zip(PERCENTILES, np.percentile(lengths, PERCENTILES).tolist(), strict=True))


def config_line(made: prepare.Prepared, url: str = "") -> str:
    """What to add to the command line of a recipe with this tokenizer to train on the folder, or its URL."""
    about, where = made.index["corpus"], url or made.directory.resolve()
    return (
        f"--config.data.corpus={where} --config.data.validation_share={about['validation_share']} "
        f"--config.data.test_share={about['test_share']}"
    )


def parser() -> table.Parser:
    """The command line."""
    options = table.Parser(__name__, __doc__)
    add = options.add_argument
    add(
        "--source",
        required=True,
        help="path, glob or folder of .txt, .csv, .tsv, .jsonl or .parquet files (plain, .gz, .zst; local, gs://, "
        "s3://), several with commas between, tfds:NAME[:SPLIT], hf:NAME[@CONFIG][:SPLIT] or builtin:pydocs",
    )
    add("--text-field", default="text", help="field or column that holds the text (default: text)")
    add(
        "--text-fields",
        default="",
        help="two or more fields whose texts belong together, with commas between: anchor,positive",
    )
    add("--labels", default="", help="fields that are kept as labels, with commas between")
    add("--numbers", default="", help="fields that are kept as numbers, with commas between")
    add(
        "--tokenizer", required=True, help=FORMS + " (tokenizer.json, .model, vocab.txt or a folder with one)"
    )
    add(
        "--output",
        help="folder for the shards, or s3://... (default: a folder in the cache, $JAXLM_CACHE or ~/.cache/jaxlm)",
    )
    add("--sentences", action="store_true", help="record sentences: needed for next sentence prediction")
    add("--validation-share", type=float, default=0.01, help="share of documents held out (default: 0.01)")
    add(
        "--test-share",
        type=float,
        default=0.01,
        help="share of documents held out for a final test (default: 0.01)",
    )
    add("--processes", type=int, help="worker processes (default: one a core)")
    return options


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split(",")) if words else ()


def main(argv: Sequence[str]) -> int:
    """Prepare and report; the exit status."""
    options = parser().options(argv)
    url = options.output if options.output and is_url(options.output) else ""
    output = copies.home(url, default_cache()) / "made" if url else options.output
    with signals.EndingAtOnce():
        made = prepare.prepare(
            corpus.Corpus(
                source=options.source,
                text_field=options.text_field,
                text_fields=_names(options.text_fields),
                columns=(
                    *(columns.Label(field=name) for name in _names(options.labels)),
                    *(columns.Number(field=name) for name in _names(options.numbers)),
                ),
                validation_share=options.validation_share,
                test_share=options.test_share,
            ),
            parse_tokenizer(options.tokenizer),
            sentences=options.sentences,
            processes=options.processes,
            output=output,
        )
        if url:
            copies.put(made.directory, url, index.INDEX)
    print(
        f"\n{report(made)}\n\nfolder: {url or made.directory}\nTo train on it, add:\n    {config_line(made, url)}"
    )
    return errors.EXIT_DONE


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
