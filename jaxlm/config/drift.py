"""Compares the configuration of a run folder with the one asked for. In: two JSON trees. Out: what changed, by weight.

Operational values (fields with a default) may change. Values of the schedule (steps, optimizer, EMA), and the steps
that are excluded (see training.excluded), need `--allow_config_change`. Values that decide what the weights are or
which tokens they see are refused.
"""

import dataclasses
from typing import Any

from jaxlm.config import former, tree
from jaxlm.config.schema import Run
from jaxlm.errors import UserError

SCHEDULE = ("optimizer.", "steps", "ema_decay")
# Have a default, and decide which rows are read or what is evaluated: changed only knowingly.
KNOWINGLY = {"exclude": [], "average_from": ""}


@dataclasses.dataclass(frozen=True)
class Change:
    """One value that differs between the run folder and the command line."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"  {self.path}: {self.old!r} in the run folder, {self.new!r} now"


def check(saved: dict, run: Run, *, allow: bool, workdir: str) -> list[Change]:
    """The operational changes since `saved` (the JSON of the run folder).

    Raises UserError that shows the difference when the model, tokenizer, objective or data order changed, or when the
    schedule changed and `allow` is false.
    """
    old = {**KNOWINGLY, **dict(_flatten(former.present(saved)))}
    new = dict(_flatten(tree.to_json(run)))
    operational = {path for path, _, has_default in tree.leaves(run) if has_default} - KNOWINGLY.keys()
    changes = [
        Change(path, old.get(path, "absent"), new.get(path, "absent"))
        for path in sorted(old.keys() | new.keys())
        if old.get(path, "absent") != new.get(path, "absent")
    ]
    serious = [change for change in changes if change.path not in operational]
    refused = [change for change in serious if not change.path.startswith((*SCHEDULE, *KNOWINGLY))]
    if refused:
        raise UserError(
            f"{workdir} holds another run: its model, tokenizer, objective or data order differ.\n{_list(refused)}\n"
            "Fix: name another --workdir, or use the run's own values to continue it."
        )
    if serious and not allow:
        raise UserError(
            f"The schedule differs from the run in {workdir}.\n{_list(serious)}\n"
            "Fix: add --allow_config_change to continue with the new schedule, or name another --workdir."
        )
    return changes


def _list(changes: list[Change]) -> str:
    return "\n".join(str(change) for change in changes)


def _flatten(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for k, v in value.items() for leaf in _flatten(v, f"{path}.{k}" if path else k)]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [leaf for i, v in enumerate(value) for leaf in _flatten(v, f"{path}[{i}]")]
    return [(path, value)]
