"""Texts that all processes of a run tell each other. In: one of each. Out: all of them, in the order of the processes.

Through jax.distributed's store of keys: no device takes part, so it may be called from any thread, whatever the devices
do, and waiting may last for hours. Guarantee: who waits for a process that is silent for too long gets an error that
names it, or what it said when it gave up; of one that is dead, jax ends the others.
"""

import collections
import time

from jaxlm.runtime import roll_call

_ROUND_MS = 2_000
_KEYS = "jaxlm/messages"
_rounds: collections.Counter[str] = collections.Counter()


class GivenUp(Exception):
    """A process answers no more; the text says which, and why."""


def exchanged(topic: str, text: str, *, patience_s: float) -> list[str]:
    """What every process says to `topic`; each calls it as often as the others.

    TimeoutError names who is silent for longer than `patience_s`; GivenUp: it will be.
    """
    client, own = roll_call.coordination()
    if client is None:
        return [text]
    number = _rounds[topic]
    _rounds[topic] += 1
    key = lambda process, number: f"{_KEYS}/{topic}/{number}/{process}"
    client.key_value_set(key(own, number), f".{text}")  # an empty value is none
    until = time.monotonic() + patience_s
    found = [_of(client, topic, key(process, number), until) for process in range(roll_call.processes())]
    if number:  # all have read the round before: they have answered this one
        client.key_value_delete(key(own, number - 1))
    return found


def give_up(topic: str, why: str) -> None:
    """This process exchanges nothing more: those that wait for it, or will, learn why."""
    client, own = roll_call.coordination()
    if client is not None:
        client.key_value_set(f"{_KEYS}/{topic}/ended", f"process {own}: {why}", allow_overwrite=True)


def _of(client: object, topic: str, key: str, until: float) -> str:
    while not (value := roll_call.said(client, key, _ROUND_MS)):
        if why := roll_call.said(client, f"{_KEYS}/{topic}/ended"):
            raise GivenUp(why)
        if time.monotonic() > until:
            raise TimeoutError(f"process {key.rsplit('/', 1)[1]} is silent")
    return value[1:]
