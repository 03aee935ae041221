"""Which steps are traced. In: `config.profile`, "START:STOP". Out: their range."""

import re

from jaxlm.errors import UserError


def traced(profile: str, steps: int, where: str) -> range:
    """The steps START to STOP - 1, numbered as in the log; none for "". UserError for what is no range of the run."""
    if not profile:
        return range(0)
    found = re.fullmatch(r"(\d{1,10}):(\d{1,10})", profile)
    if found is None or not 1 <= int(found[1]) < int(found[2]) or int(found[1]) > steps:
        raise UserError(
            f"{where}={profile!r}: allowed is START:STOP, two step numbers with 1 <= START < STOP and START at most "
            f"{steps}, the last step; steps START to STOP - 1 are traced. Fix: for example --{where}=10:13, or nothing."
        )
    return range(int(found[1]), int(found[2]))
