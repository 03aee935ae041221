"""`jaxlm VERB ...`, the same as `python -m jaxlm VERB ...`. In: argv. Out: the exit code of the verb's command.

Only the command that is asked for is imported, so that `jaxlm --help` answers at once.
"""

import importlib
import importlib.metadata
import keyword
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import GROUPS
from jaxlm.errors import EXIT_DONE, UserError, did_you_mean

EXAMPLES = """\
    jaxlm train quickstart
    jaxlm fill_mask --run=runs/quickstart "returns the [MASK] of the array."
    jaxlm generate --run=hf:path/to/model "Once upon a time" --max-new-tokens=40"""


def main(argv: Sequence[str]) -> int:
    """Runs the command of a verb, which ends the process, or prints what there is."""
    verb, *words = argv[1:] or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(usage())
    elif verb in ("--version", "-V"):
        print(f"jaxlm {importlib.metadata.version('jaxlm')}")
    else:
        command = importlib.import_module(module(verb))
        sys.argv = [f"jaxlm {verb}", *words]
        command.run()
    return EXIT_DONE


def module(verb: str) -> str:
    """The module of a verb's command. UserError for a word that is none."""
    name = verb.replace("-", "_")
    known = [name for group in GROUPS.values() for name in group]
    if name not in known:
        raise UserError(
            f"jaxlm has no command {verb!r}.{did_you_mean(name, known)} `jaxlm --help` lists them: {', '.join(known)}."
        )
    return f"jaxlm.commands.{name}_" if keyword.iskeyword(name) else f"jaxlm.commands.{name}"


def usage() -> str:
    """The verbs in groups, and three examples."""
    width = max(len(name) for group in GROUPS.values() for name in group)
    lines = ["usage: jaxlm VERB [OPTION ...]        (or: python -m jaxlm VERB ...)"]
    for title, group in GROUPS.items():
        lines += ["", title, *(f"    {name:<{width}}  {line}" for name, line in group.items())]
    lines += ["", "Examples", EXAMPLES, "", "`jaxlm VERB --help` explains a command; `jaxlm --version`."]
    return "\n".join(lines)


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)


if __name__ == "__main__":
    run()
