"""The run folder on disk. In: a workdir and a Run. Out: a `RunFolder` whose config.json agrees with the Run.

workdir/{config.json, run.log, metrics.jsonl, environment.jsonl, isolation.jsonl, tensorboard/, tokenizer/, stream/,
checkpoints/<step>/, rows/, samples/, profile/, crash/}. A folder with something else in it is refused before anything
is written into it.
Guarantees: one run at a time works in a folder; what the disk refuses is a UserError that names the file.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxlm.buckets import mirror, owner
from jaxlm.checkpoint.folders import Folders
from jaxlm.config import drift, former, tree
from jaxlm.config.executed import Code
from jaxlm.config.schema import Run
from jaxlm.data import places
from jaxlm.data.corpus.strata import Moved
from jaxlm.errors import UserError

_FORMAT = 1
_LOCK = ".lock"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    root: pathlib.Path
    url: str = ""  # of the bucket's folder that it is a copy of, if any

    @property
    def shown(self) -> str:
        """The folder as a user names it."""
        return self.url or str(self.root)

    @property
    def config(self) -> pathlib.Path:
        """The resolved configuration, JSON."""
        return self.root / "config.json"

    @property
    def tokenizer(self) -> pathlib.Path:
        """The tokenizer's own files."""
        return self.root / "tokenizer"

    @property
    def stream(self) -> pathlib.Path:
        """What was known of the training documents when the run began."""
        return self.root / "stream"

    @property
    def checkpoints(self) -> pathlib.Path:
        """One folder per saved step."""
        return self.root / "checkpoints"

    def has_checkpoints(self) -> bool:
        """Whether a checkpoint was ever saved, intact or not. A lone one without manifest is a first save cut short."""
        folders = Folders(self.checkpoints)
        saved = len(folders.all()) > 1 or bool(folders.committed())
        return saved or any(self.checkpoints.glob("*.corrupt"))

    @property
    def isolation(self) -> pathlib.Path:
        """What was measured before every stage of every start: one line of JSON each."""
        return self.root / "isolation.jsonl"

    @property
    def environment(self) -> pathlib.Path:
        """Where every start took place, and how it was asked for: one line of JSON each."""
        return self.root / "environment.jsonl"

    @property
    def rows(self) -> pathlib.Path:
        """The first rows of every stage as the model saw them."""
        return self.root / "rows"

    @property
    def samples(self) -> pathlib.Path:
        """Text the model produced."""
        return self.root / "samples"

    @property
    def profile(self) -> pathlib.Path:
        """Traces of steps."""
        return self.root / "profile"

    @property
    def crash(self) -> pathlib.Path:
        """What was known when something went wrong."""
        return self.root / "crash"


def check_free(folder: RunFolder) -> None:
    """UserError for a path that is no folder, or one with something else than a run in it. Writes nothing."""
    root = folder.root
    if (root.exists() or root.is_symlink()) and not root.is_dir():
        raise UserError(f"{root} is not a folder. Fix: name another --workdir.")
    if root.exists() and not folder.config.exists():
        _check_known(os.listdir(root), folder.has_checkpoints(), str(root))


def check_names(names: Iterable[str], where: str) -> None:
    """The same for a bucket, of the names of its objects."""
    tops = {name.partition("/")[0] for name in names}
    if "config.json" not in tops:
        _check_known(tops, "checkpoints" in tops, where)


@contextlib.contextmanager
def lock(folder: RunFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Keeps other runs out of an existing folder for as long as this process lives. UserError when one is inside."""
    with held(folder.root / _LOCK, str(folder.root), f"{os.getpid()} on {socket.gethostname()}") as failure:
        if failure:
            say(
                f"WARNING: {folder.root}: this file system has no locks ({failure.strerror}): start no second run here"
            )
        yield


@contextlib.contextmanager
def held(path: pathlib.Path, where: str, process: str) -> Iterator[OSError | None]:
    """Holds a lock file, which names its process; what the file system said if it has no locks. UserError when another
    process holds it: `where` is in use."""
    with open(path, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise UserError(
                f"{where} is in use by process {stream.read() or '(unknown)'}. Fix: wait for it, stop it, or name "
                "another --workdir."
            ) from None
        except OSError as error:
            yield error
            return
        stream.truncate(0)
        stream.write(process)
        stream.flush()
        yield None


def changes(folder: RunFolder, run: Run, *, allow_config_change: bool) -> list[drift.Change]:
    """Operational changes since the last start. UserError for the folder of another run.

    A run that never saved a checkpoint has nothing to lose: it may be started anew with any configuration.
    """
    if not folder.config.exists() or not folder.has_checkpoints():
        return []
    return drift.check(_read(folder.config), run, allow=allow_config_change, workdir=folder.shown)


def moved(folder: RunFolder) -> Moved | None:
    """The documents of the run that goes on here that are not in the split that their hash says; None: no run does."""
    if not folder.config.exists() or not folder.has_checkpoints():
        return None
    data = former.present(_read(folder.config)).get("data", {})
    return tuple((digest, split) for digest, split in data.get("moved", ()))


def check_checkpoint(
    folder: RunFolder, step: int, config: dict, run: Run, *, allow_config_change: bool
) -> None:
    """UserError when the checkpoint of `step`, saved with `config`, is of another run than the one to be continued.

    Its schedule may be an earlier one, of which config.json says whether it may change.
    """
    allow = allow_config_change or folder.config.exists()
    drift.check(config, run, allow=allow, workdir=f"The checkpoint of step {step} in {folder.shown}")


def claim(folder: RunFolder, run: Run, code: Code | None = None) -> None:
    """Writes config.json, in one rename: from here on the folder is this run's.

    It holds `code`, the files that define the run; without any (`--workdir` alone), those that were noted before.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    temporary = folder.config.with_suffix(".json.tmp")
    kept = code if code is not None and code.files else noted(folder)
    made = {"format": _FORMAT, "config": tree.to_json(run), "code": dataclasses.asdict(kept)}
    temporary.write_text(json.dumps(made, indent=1))
    temporary.replace(folder.config)


def disk_errors(folder: RunFolder) -> contextlib.AbstractContextManager[None]:
    """A file of the folder that cannot be read or written is a UserError."""
    fix = "Fix: name a --workdir you can write to, make room, or move away what stands there."
    return places.disk_errors(folder.root, fix)


def keep(path: pathlib.Path, text: str, say: Callable[[str], None], *, append: bool = False) -> None:
    """Writes what no run reads again. Where that fails (a full disk) `say` is told, and the run goes on."""
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        say(f"WARNING: {path} cannot be written ({error.strerror}); the run goes on without it")


def noted(folder: RunFolder) -> Code:
    """The files that defined the run when it was started last; empty where nothing is noted."""
    try:
        said = json.loads(folder.config.read_text(encoding="utf-8"))["code"]
        files = {str(name): str(sha) for name, sha in said["files"].items()}
        return Code(str(said["recipe"]), files)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return Code()


def saved_run(folder: RunFolder) -> Run:
    """The run of the folder's config.json. UserError for what is none, and for classes that no recipe was named for."""
    return run_of(_read(folder.config), str(folder.config), folder)


def run_of(value: Any, where: str, folder: RunFolder | None = None) -> Run:
    """The Run that a run folder, or the metadata of a checkpoint, holds as JSON. UserError when it holds none.

    `folder`: where it is noted which recipe defines the classes that are not jaxlm's.
    """
    try:
        run = tree.from_json(value)
    except tree.NotNamed as error:
        recipe = "" if folder is None else noted(folder).recipe
        raise UserError(
            f"{error} The run was started with --recipe={recipe}" if recipe else str(error)
        ) from None
    if not isinstance(run, Run):
        raise UserError(f"{where} holds no configuration of a run.")
    return run


def _check_known(names: Iterable[str], saved: bool, where: str) -> None:
    """UserError where something stands besides a run, or the traces of a start that was killed before config.json."""
    known = {"config.json.tmp", "run.log", "crash", "tokenizer", "checkpoints", _LOCK}
    known |= {owner.FOLDER, mirror.PREPARED}
    if saved:  # checkpoints hold the configuration, too: config.json was lost
        known |= {"metrics.jsonl", "environment.jsonl", "isolation.jsonl", "tensorboard"}
        known |= {"rows", "samples", "profile", "wandb", "stream"}
    if not known.issuperset(names):
        raise UserError(
            f"{where} exists and is not a run folder (no config.json). Fix: name another --workdir."
        )


def _read(path: pathlib.Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != _FORMAT:
            raise UserError(f"{path} has format {value['format']}; this version reads {_FORMAT}.")
        return value["config"]
    except UserError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read as a run's configuration ({error}). Fix: remove this file; the checkpoints hold "
            "the configuration, too."
        ) from error
