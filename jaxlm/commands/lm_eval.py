"""The LM evaluation harness (lm-eval) with a model of ours: its own command line, to which the model "jaxlm" is added.

    jaxlm lm_eval --model jaxlm --model_args run=runs/wiki --tasks hellaswag,lambada_openai
    jaxlm lm_eval --model jaxlm --model_args run=hf:DIR,precision=bfloat16 --tasks mine --include_path tasks/
    jaxlm lm_eval run --help

model_args: run, step, base, precision, max_length. Everything else is lm-eval's, and so are the scores: it compares a
decoder with published numbers. `pip install "jaxlm[lm_eval]"` installs it. Tasks that it does not find in
--include_path it takes from the net, and so are their data.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.data.corpus import extras
from jaxlm.errors import EXIT_DONE


def main(argv: Sequence[str]) -> int:
    """Registers the model and calls lm-eval."""
    words = list(argv[1:])
    explain = words in ([], ["--help"], ["-h"])
    table.Parser(__name__, __doc__).options(["", "--help"] if explain else [""])
    command = extras.require("lm_eval.__main__", "lm_eval", "lm-eval's command line")
    extras.require("jaxlm.evaluate.harness", "lm_eval", "lm-eval's command line")
    sys.argv = ["lm_eval", *words]
    command.cli_evaluate()
    return EXIT_DONE


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
