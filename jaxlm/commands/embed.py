"""Vectors of texts, and their cosines.

    jaxlm embed --run=runs/sentences "A man plays the guitar." "Someone makes music."
    jaxlm embed --run=hf:path/to/minilm --input=texts.txt --output=vectors.npy
    jaxlm embed --run=hf:path/to/minilm --input=texts.txt --json --output=vectors.jsonl

With --output, and without --json, the vectors become a numpy array: [texts, D], float32, in a file that ends in .npy.
"""

from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table


def main(argv: Sequence[str]) -> int:
    """Prints the cosines of all texts with each other, or the vectors as JSON; keeps vectors in a file."""
    options = _parser().options(argv)
    texts = table.texts(options)

    import numpy as np

    from jaxlm.infer import embed, loaded, text_reading  # after parsing, so that --help answers at once

    vectors, reading = text_reading.vectors(loaded.of_options(options), texts, options.pooling)
    if options.json:
        each = zip(texts, vectors.tolist(), strict=True)
        table.write("\n".join(table.as_json({"text": t, "vector": v}) for t, v in each), options.output)
        return 0
    note = "" if reading.scaled else " (to length 1, which the folder does not do)"
    print(f"{len(texts)} texts, {vectors.shape[1]} numbers each, pooling {reading.pooling}{note}; cosines:")
    print(embed.table(texts[:20], vectors[:20]))
    if options.output:
        np.save(options.output, vectors)
    return 0


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    table.add_model(parser, "an encoder")
    parser.add_argument(
        "--pooling",
        choices=("mean", "cls", "cls_mlp"),
        help="default: what a contrastive run was evaluated with, or the folder says (1_Pooling), else mean",
    )
    table.add_texts(parser, "text to embed")
    table.add_answers(
        parser, "a text: {text, vector}", "file for the vectors: .npy, or with --json JSON lines"
    )
    return parser


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main, when_out_of_memory="Fix: shorter texts, --precision=bfloat16, or more devices.")
