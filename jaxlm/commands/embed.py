"""Vectors of texts, and their cosines.

    jaxlm embed --run=runs/sentences "A man plays the guitar." "Someone makes music."
    jaxlm embed --run=hf:path/to/minilm --input=texts.txt --output=vectors.npy
    jaxlm embed --run=hf:path/to/minilm --input=texts.txt --json --output=vectors.jsonl

With --output, and without --json, the vectors become a numpy array: [texts, D], float32, in a file that ends in .npy.
A job with --input and --output that was killed goes on when the same line is typed again.
"""

import argparse
import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from jaxlm import entry
from jaxlm.commands import inputs, parts
from jaxlm.commands import options as table

_SHOWN = 20  # texts whose cosines are printed


def main(argv: Sequence[str]) -> int:
    """Prints the cosines of all texts with each other, or the vectors as JSON; keeps vectors in a file."""
    options = _parser().options(argv)
    in_parts = parts.asked(options)
    texts = [] if in_parts else table.texts(options)

    from jaxlm.infer import loaded, text_reading  # after parsing, so that --help answers at once

    ready = loaded.of_options(options)
    if in_parts:
        return _in_parts(options, ready)
    vectors, reading = text_reading.vectors(ready, texts, options.pooling)
    if options.json:
        table.write(_lines(texts, vectors, table.as_json), options.output)
        return 0
    _show(texts, len(texts), vectors, reading)
    if options.output:
        import numpy as np

        np.save(options.output, vectors)
    return 0


def _in_parts(options: argparse.Namespace, ready: Any) -> int:
    import numpy as np

    from jaxlm.infer import embed, text_reading

    def compute(first: int, texts: list[str]) -> Callable[[pathlib.Path], None]:
        vectors, _ = text_reading.vectors(ready, texts, options.pooling)
        if options.json:
            return lambda path: table.write(_lines(texts, vectors, parts.as_json), path)
        return lambda path: np.save(path, vectors)

    def show(job: Any, count: int) -> None:
        with job.place.fetched(job.name(0)) as path:
            vectors = np.load(path)[:_SHOWN]
        texts = list(itertools.islice(inputs.each_text(options), len(vectors)))
        _show(texts, count, vectors, text_reading.chosen(ready, options.pooling))

    if not options.json and isinstance(options.output, pathlib.Path) and options.output.suffix != ".npy":
        options.output = options.output.with_name(f"{options.output.name}.npy")  # as numpy names it
    kind, how = (".jsonl", {}) if options.json else (".npy", {"joined": embed.stacked, "before": show})
    work = parts.Work(kind=kind, records=lambda: inputs.each_text(options), compute=compute, **how)
    parts.done("embed", options, work)
    return 0


def _lines(texts: Sequence[str], vectors: Any, as_json: Callable[[Any], str]) -> str:
    each = zip(texts, vectors.tolist(), strict=True)
    return "\n".join(as_json({"text": t, "vector": v}) for t, v in each)


def _show(texts: Sequence[str], count: int, vectors: Any, reading: Any) -> None:
    from jaxlm.infer import embed

    note = "" if reading.scaled else " (to length 1, which the folder does not do)"
    print(f"{count} texts, {vectors.shape[1]} numbers each, pooling {reading.pooling}{note}; cosines:")
    print(embed.table(texts[:_SHOWN], vectors[:_SHOWN]))


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    table.add_model(parser, "an encoder")
    parser.add_argument(
        "--pooling",
        choices=("mean", "cls", "cls_mlp"),
        help="default: what a contrastive run was evaluated with, or the folder says (1_Pooling), else mean",
    )
    table.add_texts(parser, "text to embed")
    vectors = "file for the vectors: .npy, or with --json JSON lines; a folder/ or a URL: in parts"
    table.add_answers(parser, "a text: {text, vector}", vectors, place=parts.place)
    parts.add_options(parser, 1024)
    return parser


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main, when_out_of_memory="Fix: shorter texts, --precision=bfloat16, or more devices.")
