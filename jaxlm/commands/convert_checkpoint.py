"""The names that conversions had before.

    python -m jaxlm.convert_checkpoint from_hf DIR OUT [--check]     today: jaxlm import DIR OUT
    python -m jaxlm.convert_checkpoint to_hf RUN DIR [--check]       today: jaxlm export RUN DIR
    python -m jaxlm.convert_checkpoint check A B                     today: jaxlm compare A B

Options are those of the commands of today.
"""

from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import compare, export, import_
from jaxlm.errors import EXIT_DONE, UserError, did_you_mean

_MAINS = {"from_hf": import_.main, "to_hf": export.main, "check": compare.main}


def main(argv: Sequence[str]) -> int:
    """Hands over to the command of today."""
    name, *words = argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        print(__doc__)
        return EXIT_DONE
    if name not in _MAINS:
        raise UserError(
            f"convert_checkpoint {name}: allowed: {', '.join(_MAINS)}.{did_you_mean(name, _MAINS)}"
        )
    return _MAINS[name]([name, *words])


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
