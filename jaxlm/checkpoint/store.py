"""Checkpoints on disk; only this module imports orbax. In: a state and JSON metadata. Out: folders `<step>/`.

A save copies the state to the host, returns, and goes on in a thread: orbax writes `<step>/` atomically, then
our manifest (SHA-256 of every file) marks it committed, then old steps are removed. A step counts only with
its manifest. Guarantees: a save that fails is reported in one line and training goes on; what is restored has
the saved bits. All processes of a multi-host run call `save`, `wait`, `newest_intact` and `restore` together.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Literal

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from jaxlm.checkpoint import manifest, names
from jaxlm.checkpoint.folders import Folders
from jaxlm.checkpoint.policy import Keep
from jaxlm.errors import UserError

_ITEM = "state"
_SAVE_TIMEOUT_S = 4 * 3600
_FIX = "Use another workdir, or give the run the model and optimizer that the checkpoint was made with."

# Orbax narrates and repeats every error over pages; what matters of it is reported here in one line.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


class Checkpoints:
    """The checkpoints of one run: `directory/<step>/`.

    With `keep=None` nothing on disk is ever changed. `say` gets one line per event; `hook(phase, step)` is
    called at save_started, save_written, save_committed and save_pruned (fault injection).
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        keep: Keep | None,
        *,
        say: Callable[[str], None] = print,
        hook: Callable[[str, int], None] = lambda phase, step: None,
        check: Literal["size", "sha256"] = "sha256",
    ) -> None:
        self._folders = Folders(directory, check=check)
        self._keep, self._say, self._hook = keep, say, hook
        self._pending: threading.Thread | None = None
        self._failure: tuple[int, Exception] | None = None
        # Reading asks no device; writing is a thing of all processes, of which the main one keeps order.
        self._main = keep is None or jax.process_index() == 0
        if keep is not None and self._main:
            self._clean_start()

    @property
    def directory(self) -> epath.Path:
        """Where the step folders are."""
        return self._folders.directory

    def steps(self) -> list[int]:
        """Committed steps, ascending, read from disk."""
        return self._folders.committed()

    def latest(self) -> int | None:
        """The newest committed step; not verified."""
        return max(self.steps(), default=None)

    def newest_intact(self) -> int | None:
        """The newest step that verifies. Damaged newer ones are renamed `<step>.corrupt`, one line each."""
        found = self._search() if self._main else None
        return found if self._keep is None else _from_main(found)

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON metadata given to `save`."""
        return self._folders.manifest(step)["meta"]

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics given to `save`."""
        return self._folders.manifest(step)["metrics"]

    def arrays(self, step: int) -> names.Arrays:
        """Name, shape and dtype of every array: {"params/embed": {"shape": [30, 7], "dtype": "float32"}}."""
        return self._folders.manifest(step)["arrays"]

    def verify(self, step: int) -> None:
        """Raises UserError naming the first file of the step that is not what was saved."""
        self._folders.manifest(step)
        if problem := self._folders.problem(step):
            where = self._folders.path(step)
            raise UserError(
                f"Checkpoint {where} is damaged: {problem}. Use another step or a copy of this one."
            )

    def save(
        self,
        step: int,
        state: Any,
        meta: dict,
        metrics: dict[str, float] | None = None,
        *,
        final: bool = False,
    ) -> None:
        """Saves without blocking training; waits first for a save that still runs, so none is ever skipped.

        The state may be donated as soon as this returns. With `final` it waits; UserError when it failed.
        """
        assert self._keep is not None, "opened for reading"
        nested = names.to_nested(state)
        entries = {
            "meta": json.loads(json.dumps(meta)),
            "metrics": metrics or {},
            "arrays": names.describe(state),
        }
        self.wait()
        if self._folders.is_committed(step):
            self._say(f"checkpoint: step {step} is already saved")
            return
        self._start(step, nested, entries)
        if final and (error := self.wait()):
            raise UserError(
                f"The last checkpoint could not be saved in {self.directory}: {_first_line(error)}. Make "
                "room there "
                "(or fix its permissions) and run the same command again: it resumes from step "
                f"{self.latest()}."
            ) from error

    def wait(self) -> Exception | None:
        """Waits for a running save. Returns its error, if it failed, after reporting it in one line."""
        if self._pending is not None:
            self._pending.join()
            self._pending = None
        if self._failure is None:
            return None
        (step, error), self._failure = self._failure, None
        if self._main:
            with contextlib.suppress(OSError):
                self._folders.remove_temporary(step)
        newest = self.latest()
        good = (
            "there is no good checkpoint yet" if newest is None else f"the newest good one is step {newest}"
        )
        self._say(
            f"WARNING: checkpoint of step {step} could NOT be saved: {_first_line(error)}. Training goes on; {good}; "
            "the next save is tried as usual."
        )
        return error

    def discard_after(self, step: int) -> None:
        """Removes all steps newer than `step`, for a run that goes back and trains them anew."""
        self.wait()
        if self._main:
            for later in [s for s in self._folders.all() if s > step]:
                self._folders.remove(later)

    close = wait

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """(state, meta). `like` is the state as ShapeDtypeStructs with shardings: any mesh, also one device.

        Raises UserError when the step is damaged, or naming the arrays that differ in name, shape or dtype.
        """
        stored = self._folders.manifest(step)
        where = f"Checkpoint {self._folders.path(step)}"
        names.check_same(stored["arrays"], names.describe(like), where=where, fix=_FIX)
        return self._load(step, like), stored["meta"]

    def restore_params(self, step: int, like: Any, *, part: str = "params") -> Any:
        """Only `state.<part>`, or as much of it as `like` names; cast to the dtypes of `like`."""
        like, where = {part: like}, f"Checkpoint {self._folders.path(step)}"
        names.check_same(self.arrays(step), names.describe(like), where=where, fix=_FIX, part=True)
        return self._load(step, like)[part]

    def _load(self, step: int, like: Any) -> Any:
        if self._main:
            self.verify(step)
        wanted = {_ITEM: jax.tree.map(_abstract, names.to_nested(like))}
        try:
            with _context():
                nested = ocp.load_checkpointables(self._folders.path(step), wanted)[_ITEM]
        except Exception as error:
            raise UserError(
                f"Checkpoint {self._folders.path(step)} is intact but could not be read: "
                f"{_first_line(error)}. It was "
                f"written with {self.meta(step).get('versions', 'other versions of the libraries')}."
            ) from error
        return names.from_nested(nested, like)

    def _start(self, step: int, nested: dict, entries: dict) -> None:
        """The blocking part of a save: a copy on the host, and the folder."""
        try:
            self._hook("save_started", step)
            if self._main:
                self._folders.remove_temporary(step)
            with _context():
                response = ocp.save_checkpointables_async(self._folders.path(step), {_ITEM: nested})
        except Exception as error:
            self._failure = (step, error)
            return
        self._pending = threading.Thread(
            target=self._finish, args=(step, response, entries), name="checkpoint"
        )
        self._pending.start()

    def _finish(self, step: int, response: Any, entries: dict) -> None:
        """The part of a save that runs in its own thread."""
        assert self._keep is not None
        try:
            response.result()
            self._hook("save_written", step)
            if self._main:
                self._folders.commit(step, **entries)
                self._hook("save_committed", step)
                self._folders.prune(self._keep)
                self._hook("save_pruned", step)
        except Exception as error:
            self._failure = (step, error)

    def _clean_start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._folders.remove_temporary()
        for step in sorted(set(self._folders.all()) - set(self.steps())):
            self._say(
                f"checkpoint: step {step} has no {manifest.FILE} (its save was interrupted): ignored, and "
                "removed "
                "after the next save"
            )

    def _search(self) -> int | None:
        for step in reversed(self.steps()):
            problem = self._folders.problem(step)
            if problem is None:
                return step
            end = "left as it is" if self._keep is None else f"now {self._folders.set_aside(step)}"
            self._say(
                f"WARNING: checkpoint of step {step} is damaged: {problem}; {end}, older ones are tried"
            )
        return None


def find_run(path: str | os.PathLike, *, say: Callable[[str], None] = print) -> tuple[Checkpoints, int]:
    """Opens, for reading only, a run folder, its checkpoints folder, or one step's folder: (checkpoints,
    step).

    The step is the newest unless the path names one; not verified. UserError when there is none.
    """
    folder = epath.Path(os.fspath(path))
    if folder.name.isdecimal() and (folder / manifest.FILE).exists():
        return Checkpoints(folder.parent, None, say=say), int(folder.name)
    inner = folder / "checkpoints"
    checkpoints = Checkpoints(inner if inner.is_dir() else folder, None, say=say)
    step = checkpoints.latest()
    if step is None:
        raise UserError(
            f"{os.fspath(path)}: no complete checkpoint there. Give a run folder (the --workdir of a "
            "training run), "
            "its checkpoints folder, or the folder of one step."
        )
    return checkpoints, step


def open_run(path: str | os.PathLike, *, say: Callable[[str], None] = print) -> tuple[Checkpoints, int]:
    """Like `find_run`, and the step is verified: the newest intact one, or the one that the path names."""
    checkpoints, step = find_run(path, say=say)
    if epath.Path(os.fspath(path)).name != str(step):
        step = checkpoints.newest_intact()
    if step is None:
        raise UserError(f"{os.fspath(path)}: every checkpoint there is damaged.")
    checkpoints.verify(step)
    return checkpoints, step


def _context() -> ocp.Context:
    context = ocp.Context()
    context.pytree.loading.partial_load = True  # our own comparison decides what may be missing
    context.async_options.timeout_secs = _SAVE_TIMEOUT_S
    # Created in the background, a folder that cannot be leaves threads that hold up the exit for 300 s.
    context.async_options.create_directories_asynchronously = False
    return context


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _from_main(step: int | None) -> int | None:
    if jax.process_count() == 1:
        return step
    from jax.experimental import multihost_utils

    agreed = int(multihost_utils.broadcast_one_to_all(-1 if step is None else step))
    return None if agreed < 0 else agreed


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
