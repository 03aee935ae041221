"""What a run folder keeps for those who look at the run later. In: a start, its rows. Out: environment.jsonl, rows/.

Nothing of it is read again by a run.
"""

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxlm.config import folder
from jaxlm.config.flags import Command
from jaxlm.config.folder import RunFolder
from jaxlm.data import show
from jaxlm.run import inputs
from jaxlm.run.streams import StreamRows
from jaxlm.runtime import distributed
from jaxlm.training import report

_ROWS, _TOKENS = 4, 1024  # that are kept of a stage and task: rows, and tokens of a row
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS")


def start(place: RunFolder, command: Command, step: int, say: Callable[[str], None]) -> None:
    """Notes where and how the run is started, or goes on after `step`."""
    kinds = [device.device_kind for device in jax.devices()]
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "step": step,
        "command": command.words if command.code is None else f"jaxlm train {command.words}",
        "overrides": {name: str(value) for name, value in command.overrides.items()},
        "host": platform.node(),
        "processes": jax.process_count(),
        "devices": ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": report.versions(),
        "variables": {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
    }
    folder.keep(place.environment, json.dumps(line) + "\n", say, append=True)


def rows(parts: Any, read: Sequence[StreamRows], stage: int) -> None:
    """Keeps the first rows of a stage as the model sees them, of every task."""
    if not distributed.is_main():
        return
    kept = {}
    for one in read:
        batch = inputs.first_rows(parts.text, one, start=0, most=_ROWS)
        shown = show.described(batch, parts.text.tokenizer.token, rows=_ROWS)
        kept[one.stream.name] = [_within(dataclasses.asdict(row)) for row in shown]
    folder.keep(parts.place.rows / f"stage-{stage}.json", json.dumps(kept), parts.console.say)


def _within(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the items that begin behind its first tokens, and without the rest of the item there."""
    items = [item for item in row["items"] if item["places"][0] < _TOKENS]
    for item in items:
        most = _TOKENS - item["places"][0]
        for name in ("places", "positions", "types", "tokens", "targets"):
            item[name] = item[name] and item[name][:most]
        item["source"] = item["source"] and item["source"][:_TOKENS]
    return {**row, "items": items}
