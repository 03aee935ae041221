"""Checkpoints on disk. In: a state and JSON metadata. Out: folders `<step>/`.

A save copies the state to the host, returns, and goes on in a thread: the arrays are written to `<step>/` atomically,
then our manifest (SHA-256 of every file) marks it committed, then old steps are removed. A step counts only with
its manifest. Guarantees: a save that fails, on any host, is reported in one line and training goes on; what is restored
has the saved bits. All processes of a multi-host run call `save`, `wait`, `newest_intact` and `restore` together, and
what one of them decides or meets in the blocking part of a save holds for all: a save that only some of them entered
would wait for the others for ever.
"""

import contextlib
import json
import os
import pathlib
import threading
from collections.abc import Callable, Iterable
from typing import Any

import jax

from jaxlm.checkpoint import apart, former, manifest, names, storage
from jaxlm.checkpoint.folders import Folders
from jaxlm.checkpoint.policy import Keep
from jaxlm.errors import UserError
from jaxlm.runtime import distributed

_FIX = "Use another workdir, or give the run the model and optimizer that the checkpoint was made with."


class Checkpoints:
    """The checkpoints of one run: `directory/<step>/`.

    With `keep=None` nothing on disk is ever changed. `say` gets one line per event; `hook(phase, step)` is
    called at save_started, save_written, save_committed and save_pruned (fault injection). `fetch(step)` brings the
    files of a step here before they are read. `carrier`: this process has a disk of its own, see apart.py.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        keep: Keep | None,
        *,
        say: Callable[[str], None] = print,
        hook: Callable[[str, int], None] = lambda phase, step: None,
        check: manifest.Check = "sha256",
        fetch: Callable[[int], None] = lambda step: None,
        carrier: apart.Carrier | None = None,
    ) -> None:
        # Reading asks no device and no other process; writing is a thing of all, of which the main one keeps order.
        own = manifest.ALL if keep is None else manifest.HostShare(jax.process_index(), jax.process_count())
        self._folders = Folders(directory, check=check, share=own if carrier is None else manifest.ALL)
        self._keep, self._say, self._hook = keep, say, hook
        self._fetch, self._carrier = fetch, carrier
        self._pending: threading.Thread | None = None
        self._step, self._failure = -1, ""  # of the newest save
        self._main = own.index == 0
        self._orders = self._main or carrier is not None  # this disk
        if keep is not None and self._orders:
            self._clean_start()

    @property
    def directory(self) -> pathlib.Path:
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
        older = self.steps()
        while (step := self._from_main(older.pop() if older else -1)) >= 0:
            if not (problem := self._problem(step)):
                return step
            end = "left as it is" if self._keep is None else f"now {step}.corrupt"
            if self._keep is not None and self._orders:
                self._folders.set_aside(step, "corrupt")
            self._say(
                f"WARNING: checkpoint of step {step} is damaged: {problem}; {end}, older ones are tried"
            )
        return None

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON metadata given to `save`."""
        return self._folders.manifest(step)["meta"]

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics given to `save`."""
        return self._folders.manifest(step)["metrics"]

    def arrays(self, step: int, wanted: Iterable[str] | None = None) -> names.Arrays:
        """{"params/embed": {"shape": [30, 7], "dtype": "float32"}}; given `wanted`, see former.by_present_name."""
        stored = self._folders.manifest(step)["arrays"]
        return {now: stored[name] for now, name in former.by_present_name(stored, wanted).items()}

    def verify(self, step: int) -> None:
        """Raises UserError naming the first file of the step that is not what was saved."""
        self._folders.manifest(step)
        if problem := self._problem(step):
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
        if self._from_main(self._folders.is_committed(step)):
            self._say(f"checkpoint: step {step} is already saved")
            return
        self._start(step, nested, entries)
        if final and (problem := distributed.first_problem(self._settle())):
            newest = self.latest()
            then = "it starts anew" if newest is None else f"it resumes from step {newest}"
            raise UserError(
                f"The last checkpoint could not be saved in {self.directory}: {problem}. Make room there "
                f"(or fix its permissions) and run the same command again: {then}."
            )

    def wait(self) -> str:
        """Waits for a running save. Returns its error ("": none), after reporting it in one line."""
        step = self._step
        if problem := self._settle():
            newest = self.latest()
            good = "there is none yet" if newest is None else f"the newest good one is step {newest}"
            self._say(
                f"WARNING: checkpoint of step {step} could NOT be saved: {problem}. Training goes on; {good}; "
                "the next save is tried as usual."
            )
        return problem

    def _settle(self) -> str:
        """Waits for a running save, and cleans up after one that failed. Returns its error."""
        if self._pending is not None:
            self._pending.join()
            self._pending = None
        problem, self._failure = self._failure, ""
        if problem and self._orders:
            with contextlib.suppress(OSError):
                self._folders.remove_temporary(self._step)
        return problem

    def discard_after(self, step: int) -> None:
        """Removes all steps newer than `step`, for a run that goes back and trains them anew."""
        self.wait()
        if self._orders:
            for later in [s for s in self._folders.all() if s > step]:
                self._folders.remove(later)

    def set_aside_from(self, step: int, why: str = "diverged") -> list[int]:
        """Renames `step` and newer ones to `<step>.<why>`, for a run that went wrong from there on; returns them."""
        self.wait()
        found = [s for s in self.steps() if s >= step]
        for bad in found if self._orders else []:
            if self._main:
                self._bring(bad)  # what others wrote of it stays with it
            self._folders.set_aside(bad, why)
        return found

    close = wait

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """(state, meta). `like` is the state as ShapeDtypeStructs with shardings: any mesh, also one device.

        Raises UserError when the step is damaged, or naming the arrays that differ in name, shape or dtype.
        """
        where, wanted = f"Checkpoint {self._folders.path(step)}", names.describe(like)
        names.check_same(self.arrays(step, wanted), wanted, where=where, fix=_FIX)
        return self._load(step, like), self.meta(step)

    def restore_params(self, step: int, like: Any, *, part: str = "params") -> Any:
        """Only `state.<part>`, or as much of it as `like` names; cast to the dtypes of `like`."""
        where, wanted = f"Checkpoint {self._folders.path(step)}", names.describe(like := {part: like})
        names.check_same(self.arrays(step, wanted), wanted, where=where, fix=_FIX, part=True)
        return self._load(step, like)[part]

    def _load(self, step: int, like: Any) -> Any:
        self.verify(step)
        called = former.by_present_name(self._folders.manifest(step)["arrays"], names.describe(like))
        try:
            nested = storage.load(self._folders.path(step), names.to_nested(like, called))
        except Exception as error:
            raise UserError(
                f"Checkpoint {self._folders.path(step)} is intact but could not be read: {apart.first_line(error)}. "
                f"It was written with {self.meta(step).get('versions', 'other versions of the libraries')}."
            ) from error
        return names.from_nested(nested, like, called)

    def _start(self, step: int, nested: dict, entries: dict) -> None:
        """The blocking part of a save: a copy on the host, and the folder."""
        self._step, problem = step, ""
        try:
            self._hook("save_started", step)
            if self._orders:
                self._folders.make_ready(step)
        except Exception as error:
            problem = apart.first_line(error)
        self._failure = distributed.first_problem(problem)
        if self._failure:
            return
        try:
            path = self._folders.path(step)
            response = storage.start(path, nested, apart=self._carrier is not None)
        except Exception as error:
            self._failure = apart.first_line(error)
            return
        self._pending = threading.Thread(
            target=self._finish, args=(step, response, entries), name="checkpoint"
        )
        self._pending.start()

    def _finish(self, step: int, response: Any, entries: dict) -> None:
        """The part of a save that runs in its own thread."""
        assert self._keep is not None

        def written() -> None:
            response.result()
            self._hook("save_written", step)

        committed = lambda: self._hook("save_committed", step)
        try:
            if self._carrier is not None:
                apart.commit(self._folders, step, entries, self._carrier, written, committed)
            else:
                written()
                self._folders.commit(step, **entries)
                if self._main:
                    committed()
        except Exception as error:
            self._failure = apart.first_line(error)
            return
        if not self._orders:
            return
        try:
            self._folders.prune(self._keep)
            self._hook("save_pruned", step)
        except OSError as error:
            self._say(f"WARNING: old checkpoints could not be removed ({error}); step {step} is saved")

    def _problem(self, step: int) -> str:
        """What any process found wrong with its share of a step's files, or "". Each step is read once."""
        if self._keep is not None:
            with distributed.ending_together():
                self._bring(step)
        problem = self._folders.problem(step) or ""
        return problem if self._keep is None else distributed.first_problem(problem)

    def _bring(self, step: int) -> None:
        try:
            self._fetch(step)
        except OSError as error:
            raise UserError(
                f"The checkpoint of step {step} cannot be fetched: {error}. Fix: check the address and the access, and "
                "run the same command again."
            ) from error

    def _from_main(self, number: int) -> int:
        return number if self._keep is None else distributed.from_main(number)

    def _clean_start(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._folders.remove_temporary()
        except OSError as error:
            raise UserError(
                f"{self.directory} cannot hold checkpoints: {error.strerror} ({error.filename}). Fix: move away what "
                "stands there, mend its permissions, or name another --workdir."
            ) from error
        for step in sorted(set(self._folders.all()) - set(self.steps())):
            why = f"step {step} has no {manifest.FILE} (its save was interrupted)"
            self._say(f"checkpoint: {why}: ignored, and removed after the next save")
