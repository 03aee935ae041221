"""The environments of two processes on this machine that act as the two hosts of a run."""

from jaxlm.runtime import local
from tests import xla


def two_hosts(devices: int = 1, hosts: int = 2) -> list[dict[str, str]]:
    """What each process needs in its environment; `devices` is per process."""
    return local.hosts(hosts, devices, {"XLA_FLAGS": xla.flags(devices)})
