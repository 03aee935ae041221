"""A Hugging Face folder becomes a model folder, which training starts from and every command uses.

    jaxlm import path/to/hf_model models/mine --check
    jaxlm import path/to/model.gguf models/mine

SOURCE is a folder that transformers reads, a .gguf file, or the name of a model in the local cache of the hub; nothing
is downloaded, and nothing in it is executed.
"""

from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import compare
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE
from jaxlm.runtime import signals


def main(argv: Sequence[str]) -> int:
    """Converts, and compares where that is asked for."""
    parser = table.Parser(__name__, __doc__)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="Hugging Face folder (hf:DIR or DIR), or .gguf file")
    add("target", metavar="DIR", help="the model folder to make; it must not exist, or be empty")
    compare.add_pickles(parser)
    compare.add_check(parser)
    options = parser.options(argv)
    signals.end_on_term()

    from jaxlm.data.places import expanded  # after parsing, so that --help answers at once
    from jaxlm.exchange import importing
    from jaxlm.exchange.stored import HF

    source, target = options.source.removeprefix(HF), expanded(options.target)
    importing.from_hf(source, target, say=print, allow_pickle=options.allow_pickle)
    if options.check:
        return compare.told(source, str(target), allow_pickle=options.allow_pickle)
    return EXIT_DONE


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
