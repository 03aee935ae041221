"""What run.log says of a run that no other file does. In: its text. Out: a `Log`.

A line of another version is passed over.
"""

import dataclasses
import datetime
import re

_LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (.*)$")
_FACT = re.compile(r"^  ([A-Za-z][\w ]{1,18}?) {2,}(\S.*)$")
_BASELINE = re.compile(
    r"^held-out (\S+) loss(.*) ([\d.]+) nats; unigram cross-entropy of the same tokens ([\d.]+) nats$"
)
_TERMS = {"masked-LM": "mlm", "LM": "lm"}


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A held-out loss beside that of a model that knows only how frequent tokens are, in nats."""

    term: str  # of the objective: mlm, lm
    of: str  # " of task words on wiki"; "" where there is one
    loss: float
    unigram: float


@dataclasses.dataclass
class Log:
    """Of all starts of a run."""

    started: list[str] = dataclasses.field(default_factory=list)  # local time of every start
    seconds: float = 0.0  # from the first to the last line of each start
    resumed: list[int] = dataclasses.field(default_factory=list)  # steps
    facts: dict[str, str] = dataclasses.field(default_factory=dict)  # of the newest table before a stage
    baselines: list[Baseline] = dataclasses.field(default_factory=list)  # of the newest end
    stopped_early: bool = False


def parsed(text: str) -> Log:
    """Every line that is known."""
    log, last, ended = Log(), None, False
    for stamp, line in filter(None, map(_stamped, text.splitlines())):
        if line.startswith("jaxlm: "):
            log.started.append(stamp.isoformat(" "))
            log.stopped_early, ended, last = False, False, None
        log.seconds += 0.0 if last is None else max((stamp - last).total_seconds(), 0.0)
        last = stamp
        if not ended and _BASELINE.match(line):
            log.baselines, ended = [], True  # those of an earlier end are over
        _take(log, line)
    return log


def _stamped(line: str) -> tuple[datetime.datetime, str] | None:
    found = _LINE.match(line)
    try:
        return found and (datetime.datetime.fromisoformat(found[1]), found[2])
    except ValueError:
        return None


def _take(log: Log, line: str) -> None:
    if found := re.match(r"resumed from the checkpoint of step (\d+)$", line):
        log.resumed.append(int(found[1]))
    elif found := _BASELINE.match(line):
        log.baselines.append(
            Baseline(_TERMS.get(found[1], found[1]), found[2], float(found[3]), float(found[4]))
        )
    elif re.match(r"(the run is complete at step \d+: )?stopped early\b", line):
        log.stopped_early = True
    elif found := _FACT.match(line):
        log.facts[found[1]] = found[2]
