"""The environments of two processes on this machine that act as the two hosts of a run."""

import socket

from tests import xla


def two_hosts(devices: int = 1, hosts: int = 2) -> list[dict[str, str]]:
    """What each process needs in its environment; `devices` is per process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "XLA_FLAGS": xla.flags(devices),
        "JAXLM_COORDINATOR": f"127.0.0.1:{port}",
        "JAXLM_NUM_PROCESSES": str(hosts),
    }
    return [{**common, "JAXLM_PROCESS_ID": str(index)} for index in range(hosts)]
