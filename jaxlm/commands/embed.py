"""`python -m jaxlm.embed --run=DIR "A man plays." "Someone makes music."`: embeddings of texts and their cosines.

DIR is a run folder or a model folder; --hf=DIR reads a Hugging Face folder as it is. --output=FILE.npy keeps vectors.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Prints the cosines of all texts with each other."""
    parser = argparse.ArgumentParser(prog="python -m jaxlm.embed", description=__doc__)
    entry.add_model(parser, "an encoder")
    parser.add_argument(
        "--pooling",
        choices=("mean", "cls", "cls_mlp"),
        help="default: what a contrastive run was evaluated with, or the folder says (1_Pooling), else mean",
    )
    parser.add_argument("--input", type=pathlib.Path, help="file with one more text a line")
    parser.add_argument("--output", type=pathlib.Path, help="file for the vectors: .npy, [texts, D], float32")
    parser.add_argument("texts", nargs="*", help="texts to embed")
    options = parser.parse_args(list(argv[1:]))
    texts = [*options.texts, *entry.lines(options.input, "--input")]
    if not texts:
        raise UserError(
            "There is nothing to embed: write texts behind the options, or name a file with --input."
        )

    import numpy as np

    from jaxlm.infer import embed, loaded, text_reading  # after parsing, so that --help answers at once

    vectors, reading = text_reading.vectors(loaded.of_options(options), texts, options.pooling)
    note = "" if reading.scaled else " (to length 1, which the folder does not do)"
    print(f"{len(texts)} texts, {vectors.shape[1]} numbers each, pooling {reading.pooling}{note}; cosines:")
    print(embed.table(texts[:20], vectors[:20]))
    if options.output:
        np.save(options.output, vectors)
    return 0


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main, when_out_of_memory="Fix: shorter texts, --precision=bfloat16, or more devices.")
