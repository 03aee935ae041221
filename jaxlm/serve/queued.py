"""A model whose rows wait for those of other requests. In: a `Loaded` and a `Device`. Out: the same, for many threads.

Everything in `infer` and `tasks` computes through `by_row`; here that is a place in the queue. So each of them serves
as it stands, called from the thread of a request.
"""

import contextvars
import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxlm.infer.loaded import Loaded
from jaxlm.infer.predict import Ask
from jaxlm.serve.device import Device, Work
from jaxlm.serve.limits import Asked

# The request that a thread works for; it goes with the context into the thread.
asking = contextvars.ContextVar[Asked]("asking")


def nothing(tokens_BT: Any) -> None:
    """The targets of a program without any."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Queued(Loaded):
    """What `by_row` of a `Loaded` computes, the device computes."""

    device: Device
    name: str

    def by_row(
        self, program: Any, rows: Sequence[Sequence[int]], *, targets: Ask = nothing, batch_size: int = 32
    ) -> list[Any]:
        """As `Predictor.by_row`; the height of a batch is the device's affair."""
        work = Work(self, program, targets, (), self.name)
        return self.device.ask(work, rows, asking.get(Asked()))


def queued(loaded: Loaded, device: Device, name: str) -> Queued:
    """The same model behind the queue."""
    fields = {field.name: getattr(loaded, field.name) for field in dataclasses.fields(loaded)}
    return Queued(**fields, device=device, name=name)
