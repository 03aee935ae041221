"""From host batches to the devices. In: numpy `Batch`es of this host's rows. Out: global `Batch`es, kept ready.

A background thread reads ahead and starts the transfers, so a step waits for data only if reading is slower than
training; `wait_s` says how long, and `read` what the rows' digests add up to (see attest). Which rows a host holds
follows from the sharding alone, never from its number.
"""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxlm.batch import Batch
from jaxlm.data import attest

# One for all fields (their first axis), or a Batch with one per field or group of fields.
Shardings: TypeAlias = NamedSharding | Batch


def host_rows(shardings: Shardings, batch_size: int, devices: Collection[Any] | None = None) -> np.ndarray:
    """Sorted offsets in a global batch of the rows on `devices` (default: those of this process)."""
    held = devices if devices is not None else _sharding(shardings).addressable_devices
    spans = {span for device, span in _spans(shardings, batch_size).items() if device in held}
    # Two hosts may hold the same rows (a tensor axis across hosts), and a host may hold several stretches.
    return np.unique(np.concatenate([np.arange(*span) for span in spans]))


def first_holders(
    shardings: Shardings, batch_size: int, process: Callable[[Any], int] = lambda device: device.process_index
) -> np.ndarray:
    """[batch_size]: of every row of a global batch the first of the processes that hold it."""
    first_B = np.full(batch_size, np.iinfo(np.int64).max)
    for device, span in _spans(shardings, batch_size).items():
        rows = slice(*span)
        first_B[rows] = np.minimum(first_B[rows], process(device))
    return first_B


def _sharding(shardings: Shardings) -> NamedSharding:
    return shardings.tokens_BT if isinstance(shardings, Batch) else shardings


def _spans(shardings: Shardings, batch_size: int) -> dict[Any, tuple[int, int]]:
    """Of every device the rows [low, high) that it holds."""
    sharding = _sharding(shardings)
    rows = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*sharding.spec[:1]))
    return {
        device: index[0].indices(batch_size)[:2]
        for device, index in rows.devices_indices_map((batch_size,)).items()
    }


class Feed:
    """Iterates over global batches; `prefetch` of them are on the devices or on their way. A context manager."""

    def __init__(
        self, batches: Iterator[Batch], shardings: Shardings, *, batch_size: int, prefetch: int = 2
    ) -> None:
        self.wait_s = 0.0  # time that the last next() waited for data
        self.read = 0  # the sum over the rows of the last next() that no earlier process counts
        self._batches, self._shardings, self._batch_size = batches, shardings, batch_size
        self._rows = host_rows(shardings, batch_size)
        self._mine = first_holders(shardings, batch_size)[self._rows] == jax.process_index()
        self._ready: queue.Queue = queue.Queue(maxsize=max(prefetch, 1))
        self._closed = threading.Event()
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="jaxlm-feed", daemon=True)
        self._thread.start()

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Batch:
        """The next global batch; raises what the reading thread met, again on every further call."""
        if self._ended is not None:
            raise self._ended
        if self._closed.is_set():
            raise StopIteration
        start = time.perf_counter()
        got = self._ready.get()
        self.wait_s = time.perf_counter() - start
        if isinstance(got, BaseException):
            self._ended = got
            raise got
        batch, self.read = got
        return batch

    def close(self) -> None:
        """Ends the thread and closes the source. Safe to call twice."""
        self._closed.set()
        while self._thread.is_alive():  # it may be waiting for room in the queue
            try:
                self._ready.get_nowait()
            except queue.Empty:
                self._thread.join(timeout=0.05)
        close = getattr(self._batches, "close", None)  # a grain iterator has it, a list iterator has not
        if close is not None:
            close()

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        try:
            while not self._closed.is_set():
                batch = next(self._batches)
                read = 0 if batch.digests_B is None else attest.total(batch.digests_B[self._mine])
                self._ready.put((self._to_devices(dataclasses.replace(batch, digests_B=None)), read))
        except BaseException as error:  # handed to the caller, who would otherwise wait for ever
            self._ready.put(error)

    def _to_devices(self, batch: Batch) -> Batch:
        place = lambda sharding, part: jax.tree.map(lambda local: self._global(local, sharding), part)
        return jax.tree.map(place, self._shardings, batch)

    def _global(self, local: np.ndarray, sharding: Any) -> jax.Array:
        shape = (self._batch_size, *local.shape[1:])
        if local.shape[0] != len(self._rows):
            raise ValueError(
                f"the host's batch has {local.shape[0]} rows, its devices hold {len(self._rows)}"
            )

        def part(index: Any) -> np.ndarray:
            low, high, _ = index[0].indices(self._batch_size)
            at = int(np.searchsorted(self._rows, low))
            return local[(slice(at, at + high - low), *index[1:])]

        return jax.make_array_from_callback(shape, sharding, part)
