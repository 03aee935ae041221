"""A local folder and a folder of a bucket that are one run. In: both. Out: `pull` makes the first as the second is,
`push` the second as the first is; `send` and `fetch` carry some files while others work in the same bucket.

Guaranteed: in the bucket, as on a disk, a checkpoint with a manifest is whole: the manifest is put there last, and
taken away before anything else of its step is changed; what has no manifest here is removed there. What was transferred
is noted in a record beside the folder, by size, time and version: the same is not transferred twice, and what does not
agree with the record is fetched again.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import threading
from collections.abc import Callable, Iterable

from jaxlm.buckets import owner
from jaxlm.buckets.bucket import Bucket
from jaxlm.errors import UserError

MARKER = "manifest.json"
STEPS = "checkpoints/"
PREPARED = ".prepared"  # a folder of the bucket with what its run reads
_PASSING = (".lock", ".partial", ".tmp", ".fetched")  # how names end that mean something on a disk alone
_UNFINISHED = ".orbax-checkpoint-tmp"
_THREADS = 8
_TRIES = 3
_WHOLE = 32 << 20  # bytes up to which a file is read before it is sent: it may grow meanwhile

Wanted = Callable[[str], bool]


def is_marker(name: str) -> bool:
    """Whether an object makes a checkpoint count."""
    parts = name.split("/")
    return name.startswith(STEPS) and len(parts) == 3 and parts[2] == MARKER


class Mirror:
    """`folder` and `bucket`; `record` is a file outside of the folder."""

    def __init__(self, bucket: Bucket, folder: pathlib.Path, record: pathlib.Path) -> None:
        self.bucket, self.folder, self._record = bucket, folder, record
        self.guard: Callable[[], None] = lambda: None  # raises where this process may not write any more
        self._lock = threading.Lock()
        self._known: dict[str, list] = {}  # name: [bytes, mtime in ns, version in the bucket; "": not asked]
        with contextlib.suppress(OSError, ValueError):
            self._known = json.loads(record.read_text())

    def pull(self, wanted: Wanted = lambda name: True, *, exactly: bool = True) -> None:
        """Makes the folder as the bucket is, in what is wanted; nothing else that is stale stays either. Not `exactly`:
        files that never came from there do."""
        with self._lock:
            for left in reversed(range(_TRIES)):
                try:
                    return self._pull(wanted, exactly)
                except FileNotFoundError as error:  # removed since it was listed: its run goes on
                    if not left:
                        raise UserError(f"{self.bucket.url} changes faster than it can be read.") from error

    def push(self, *, small: bool = False, before_markers: Callable[[], None] = lambda: None) -> None:
        """Makes the bucket as the folder is; `small`: all but checkpoints, unless another thread pushes."""
        if not self._lock.acquire(blocking=not small):
            return
        try:
            self._push(small, before_markers)
        finally:
            self._save()
            self._lock.release()

    def send(self, below: str) -> None:
        """Puts the files below a folder there, marker or not; what others put there stays."""
        with self._lock:
            self.guard()
            local = {name: now for name, now in self._local().items() if name.startswith(f"{below}/")}
            try:
                self._put([name for name in local if self._known.get(name, [])[:2] != local[name]], local)
                self._ask_versions(below)
            finally:
                self._save()

    def fetch(self, below: str, inside: tuple[str, ...]) -> None:
        """Brings what is below a folder there, or what is called so inside of it, and differs here."""
        with self._lock:
            local, listed = self._local(), self.bucket.listed(below)
            start = tuple(f"{below}/{name}" for name in inside or ("",))
            names = [name for name in listed if name.startswith(start) and not name.endswith(_PASSING)]
            same = lambda name: [*local.get(name, ()), listed[name]] == self._known.get(name)
            in_threads(lambda name: self._fetch(name, listed[name]), [n for n in names if not same(n)])
            self._save()

    def clear(self, below: str) -> None:
        """Removes what is below a folder there, whoever put it there; the marker first."""
        with self._lock:
            self.guard()
            self._clear(list(self.bucket.listed(below)))
            self._save()

    def _pull(self, wanted: Wanted, exactly: bool) -> None:
        aside = (f"{owner.FOLDER}/", f"{PREPARED}/")
        listed = {
            name: version
            for name, version in self.bucket.listed().items()
            if not name.startswith(aside) and not name.endswith(_PASSING)
        }
        local = self._local()
        same = {name for name in local if [*local[name], listed.get(name)] == self._known.get(name)}
        for name in local.keys() - same:
            if exactly or name in self._known or name in listed:
                (self.folder / name).unlink()
        self._known = {name: self._known[name] for name in same}
        # Markers last, here too: a fetch that is killed leaves no step that looks whole.
        names = sorted((name for name in listed if name not in same and wanted(name)), key=is_marker)
        for some in (
            [name for name in names if not is_marker(name)],
            [name for name in names if is_marker(name)],
        ):
            in_threads(lambda name: self._fetch(name, listed[name]), some)
        self._drop_empty_folders()
        self._save()

    def _fetch(self, name: str, version: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.fetched")
        self.bucket.download(name, partial)
        partial.replace(path)
        found = path.stat()
        self._known[name] = [found.st_size, found.st_mtime_ns, version]

    def _push(self, small: bool, before_markers: Callable[[], None]) -> None:
        self.guard()
        local = {n: now for n, now in self._complete().items() if not (small and n.startswith(STEPS))}
        changed = [name for name, now in local.items() if self._known.get(name, [])[:2] != now]
        gone = [name for name in self._known if name not in local and not name.startswith(STEPS)]
        markers = [name for name in changed if is_marker(name)]
        self._remove(markers)
        self._put([name for name in changed if not name.startswith(STEPS)], local)
        self._put([name for name in changed if name.startswith(STEPS) and not is_marker(name)], local)
        if markers:
            before_markers()
            self.guard()
        self._put(markers, local)
        self._remove(gone)
        if not small:
            listed = self._ask_versions("")
            whole = {name.split("/")[1] for name in local if is_marker(name)}
            old = [n for n in listed if n.startswith(STEPS) and n.split("/")[1] not in whole]
            if old:
                self.guard()
            self._clear(old)

    def _ask_versions(self, below: str) -> dict[str, str]:
        """Notes the version of what was put there since it was asked last; {name: version} of all below a folder."""
        listed = self.bucket.listed(below)
        for name, entry in self._known.items():
            entry[2] = entry[2] or listed.get(name, "")
        return listed

    def _put(self, names: list[str], local: dict[str, list[int]]) -> None:
        def one(name: str) -> None:
            path = self.folder / name
            if local[name][0] <= _WHOLE:
                self.bucket.write(name, path.read_bytes())
            else:
                self.bucket.upload(path, name)
            self._known[name] = [*local[name], ""]

        in_threads(one, names)

    def _remove(self, names: Iterable[str]) -> None:
        def one(name: str) -> None:
            self.bucket.remove(name)
            self._known.pop(name, None)

        in_threads(one, [name for name in names if name in self._known])

    def _clear(self, names: list[str]) -> None:
        for some in (filter(is_marker, names), (name for name in names if not is_marker(name))):
            in_threads(self.bucket.remove, list(some))
        for name in names:
            self._known.pop(name, None)

    def _complete(self) -> dict[str, list[int]]:
        """What belongs into the bucket: no step that is not committed."""
        found = self._local()
        whole = {name.split("/")[1] for name in found if is_marker(name)}
        step = lambda name: name.split("/")[1]
        return {name: now for name, now in found.items() if not name.startswith(STEPS) or step(name) in whole}

    def _local(self) -> dict[str, list[int]]:
        """{name: [bytes, mtime in ns]} of the files in the folder."""
        found = {}
        for place, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if _UNFINISHED not in name]
            for name in names:
                path = pathlib.Path(place, name)
                if not name.endswith(_PASSING):
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        now = path.stat()
                        found[path.relative_to(self.folder).as_posix()] = [now.st_size, now.st_mtime_ns]
        return found

    def _drop_empty_folders(self) -> None:
        for place, _, _ in os.walk(self.folder, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(place)

    def _save(self) -> None:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        partial = self._record.with_name(f"{self._record.name}.partial")
        partial.write_text(json.dumps(self._known))
        partial.replace(self._record)


def in_threads(work: Callable[[str], None], names: list[str]) -> None:
    """The first error ends it."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(work, names):
            pass
