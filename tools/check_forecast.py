"""How good the remaining time on the log lines of a run was: estimate against truth, from its run.log.

    python tools/check_forecast.py RUN [RUN ...]

One row for each share of the steps of the run's last start; true is the time from that line to the last one.
"""

import pathlib
import re
import sys
from collections.abc import Sequence
from datetime import datetime

_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
_LINE = re.compile(r"^(\S+ \S+) step (\d+)/(\d+) .* eta (\S+)$")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def table(run: pathlib.Path) -> str:
    """Rows of a Markdown table."""
    log = (run / "run.log").read_text().splitlines()
    start = max(i for i, line in enumerate(log) if line[20:].startswith("jaxlm: "))
    lines = [match.groups() for match in map(_LINE.match, log[start:]) if match]
    end, total = _time(log[-1][:19]), int(lines[0][2])
    rows = ["| steps | estimate | truth | error |", "|---|---|---|---|"]
    for share in _SHARES:
        stamp, step, _, eta = next(line for line in lines if int(line[1]) >= share * total)
        estimate, truth = seconds(eta), (end - _time(stamp)).total_seconds()
        error = f"{estimate / truth - 1:+.0%}" if truth else "–"
        rows.append(f"| {int(step) / total:.0%} | {estimate} s | {truth:.0f} s | {error} |")
    return "\n".join(rows)


def seconds(text: str) -> int:
    """Of a duration as the console shows it: '1h02m' is 3720."""
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))


def _time(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S")


def main(runs: Sequence[str]) -> None:
    """Prints a table for each."""
    for run in runs:
        print(f"{run}\n\n{table(pathlib.Path(run))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
