"""The run folder on disk. In: a workdir and a Run. Out: a `RunFolder` whose config.json agrees with the Run.

workdir/{config.json, run.log, metrics.jsonl, tensorboard/, tokenizer/, checkpoints/<step>/, samples/, crash/}. A folder
that holds another run, or something else, is refused before anything is written into it.
"""

import dataclasses
import json
import os
import pathlib

from jaxlm.config import drift, tree
from jaxlm.config.schema import Run
from jaxlm.errors import UserError

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    root: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """The resolved configuration, JSON."""
        return self.root / "config.json"

    @property
    def tokenizer(self) -> pathlib.Path:
        """The tokenizer's own files."""
        return self.root / "tokenizer"

    @property
    def checkpoints(self) -> pathlib.Path:
        """One folder per saved step."""
        return self.root / "checkpoints"

    def has_checkpoints(self) -> bool:
        """Whether a checkpoint was ever saved, intact or not."""
        return self.checkpoints.is_dir() and any(
            path.name.isdecimal() or path.name.endswith(".corrupt") for path in self.checkpoints.iterdir()
        )

    @property
    def samples(self) -> pathlib.Path:
        """Text the model produced."""
        return self.root / "samples"

    @property
    def crash(self) -> pathlib.Path:
        """What was known when something went wrong."""
        return self.root / "crash"


def enter(
    workdir: pathlib.Path, run: Run, *, allow_config_change: bool
) -> tuple[RunFolder, list[drift.Change]]:
    """Opens a run folder, or one to be: (folder, operational changes since the last start). Writes nothing.

    Raises UserError for the folder of another run, and for a folder with other things in it. A run that never saved a
    checkpoint has nothing to lose: it may be started anew with any configuration.
    """
    folder = RunFolder(workdir)
    changes: list[drift.Change] = []
    if folder.config.exists():
        if folder.has_checkpoints():
            changes = drift.check(_read(folder.config), run, allow=allow_config_change, workdir=str(workdir))
    elif workdir.exists() and (not workdir.is_dir() or _foreign(workdir)):
        raise UserError(
            f"{workdir} exists and is not a run folder (no config.json). Fix: name another --workdir."
        )
    return folder, changes


def claim(folder: RunFolder, run: Run) -> None:
    """Writes config.json, in one rename: from here on the folder is this run's."""
    path = folder.config
    text = json.dumps({"format": _FORMAT, "config": tree.to_json(run)}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".json.tmp")
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error}. Fix: name a --workdir you can write to.") from error


def read(workdir: pathlib.Path) -> tuple[RunFolder, Run]:
    """The folder and Run of an existing run folder. Raises UserError when there is none."""
    folder = RunFolder(workdir)
    if not folder.config.is_file():
        raise UserError(
            f"{workdir} is not a run folder: it has no config.json. Fix: name the --workdir of a run."
        )
    return folder, tree.from_json(_read(folder.config))


def _foreign(workdir: pathlib.Path) -> list[str]:
    """What stands in the folder besides the traces of a start that was killed before config.json was written."""
    known = ("config.json.tmp", "run.log", "crash", "tokenizer", "checkpoints")
    return [name for name in os.listdir(workdir) if name not in known]


def _read(path: pathlib.Path) -> dict:
    try:
        value = json.loads(path.read_text())
        if value["format"] != _FORMAT:
            raise UserError(f"{path} has format {value['format']}; this version reads {_FORMAT}.")
        return value["config"]
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read as a run's configuration ({error}).") from error
