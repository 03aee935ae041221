"""What a fine-tuning recipe begins with where nobody says it. In: argv of a training command. Out: its `Command`.

On built-in data, with its own small model, it begins with the tiny run of its kind where there is one: exactly
as if `--config.init_from=runs/quickstart` had been typed, and so the run folder has it. Else it begins from nothing. A
line says which. A run that goes on keeps what it began with.
"""

import dataclasses
from collections.abc import Sequence

from jaxlm.config import flags, folder, remote
from jaxlm.config.flags import Command
from jaxlm.data.places import expanded
from jaxlm.exchange.starting import TINY

RECIPES = {"encoder": "quickstart", "decoder": "quickstart_gpt", "encoder_decoder": "quickstart_t5"}
_SAID = {"model", "tokenizer", "init_from"}  # whoever names one of them says what it begins with


def parse(argv: Sequence[str]) -> Command:
    """As `flags.parse`."""
    command = flags.parse(argv)
    if not _as_it_stands(command):
        return command
    recipe = RECIPES[command.run.model.kind]
    start = f"runs/{recipe}"
    if _began(command, start):
        command = flags.parse([*argv, f"--config.init_from={start}"])
        return dataclasses.replace(
            command, note=f"begins with what {start} learnt; from nothing: --config.init_from="
        )
    return dataclasses.replace(
        command, note=f"begins from nothing; after `jaxlm train {recipe}` with what that learnt"
    )


def _as_it_stands(command: Command) -> bool:
    changed = {key.partition(".")[0].partition("[")[0] for key in command.overrides}
    return (
        command.code is not None
        and command.code.unstarted
        and command.run.data.corpus.startswith("builtin:")
        and command.run.model.kind in RECIPES
        and command.run.model.hidden <= TINY
        and changed.isdisjoint(_SAID)
    )


def _began(command: Command, start: str) -> bool:
    """Whether the run began with it; of a new one: whether it is there."""
    place = command.known
    if place.config.exists():
        return folder.saved_run(place).init_from == start
    return folder.RunFolder(expanded(remote.local(start, "config.init_from"))).has_checkpoints()
