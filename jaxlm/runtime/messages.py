"""Texts that all processes of a run tell each other. In: one of each. Out: all of them, in the order of the processes.

Through jax.distributed's store of keys: no device takes part, so it may be called from any thread, whatever the devices
do, and waiting may last for hours. Guarantee: who waits for a process that is silent for too long gets an error that
names it; of one that is dead, jax ends the others.
"""

import collections
import time

from jaxlm.runtime import roll_call

_ROUND_MS = 10_000
_rounds: collections.Counter[str] = collections.Counter()


def exchanged(topic: str, text: str, *, patience_s: float) -> list[str]:
    """What every process says to `topic`; each calls it as often as the others. TimeoutError names who is silent."""
    client, own = roll_call.coordination()
    if client is None:
        return [text]
    number = _rounds[topic]
    _rounds[topic] += 1
    key = lambda process, number: f"jaxlm/messages/{topic}/{number}/{process}"
    client.key_value_set(key(own, number), f".{text}")  # an empty value is none
    until = time.monotonic() + patience_s
    found = [_of(client, key(process, number), process, until) for process in range(roll_call.processes())]
    if number:  # all have read the round before: they have answered this one
        client.key_value_delete(key(own, number - 1))
    return found


def _of(client: object, key: str, process: int, until: float) -> str:
    while not (value := roll_call.said(client, key, _ROUND_MS)):
        if time.monotonic() > until:
            raise TimeoutError(f"process {process} is silent")
    return value[1:]
