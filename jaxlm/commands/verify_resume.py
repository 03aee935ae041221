"""Does a run go on exactly after it was killed, here and elsewhere? Trains, kills, goes on, and compares.

    jaxlm verify_resume quickstart
    jaxlm verify_resume configs/mine.py --config.data.corpus=corpus.txt --on=8x1,2x4,1 --steps=3
    jaxlm verify_resume quickstart --on=4,2x2@2

--on names topologies, DATA[xFSDP[xTENSOR]] devices each and @P in so many processes; on a CPU devices are virtual. A
run takes --steps on each, is killed (SIGKILL) when the checkpoint behind them is there, and goes on on the next;
another one is killed and goes on where it was, a third is not killed. All options of `jaxlm train` are taken. Exit code
0: the same bits, rows and losses; 70: not, what differs is printed and the folders stay.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE, EXIT_NUMERICAL, EXIT_RESUMABLE, UserError
from jaxlm.monitor import metrics
from jaxlm.runtime import local

_VALUES = ("--on", "--steps", "--tolerance", "--workdir")
_VIRTUAL = "8x1,2x4,1"


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices by axis, and the processes that hold them."""

    text: str
    sizes: tuple[int, int, int]  # data, fsdp, tensor
    processes: int

    @classmethod
    def parse(cls, text: str) -> "Topology":
        """UserError for what is no topology."""
        found = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?(?:x([1-9]\d*))?(?:@([1-9]\d*))?", text)
        if not found:
            raise UserError(
                f"--on={text}: a topology is DATA[xFSDP[xTENSOR]][@PROCESSES], such as 2x4 or 4x1@2."
            )
        data, fsdp, tensor, processes = (int(one or 1) for one in found.groups())
        made = cls(text, (data, fsdp, tensor), processes)
        if made.devices % processes:
            raise UserError(f"--on={text}: {processes} processes cannot share {made.devices} devices alike.")
        return made

    @property
    def devices(self) -> int:
        """Of all processes."""
        data, fsdp, tensor = self.sizes
        return data * fsdp * tensor

    @property
    def words(self) -> list[str]:
        """For `jaxlm train`."""
        names = ("data", "fsdp", "tensor")
        return [f"--config.mesh.{name}={size}" for name, size in zip(names, self.sizes, strict=True)]


def main(argv: Sequence[str]) -> int:
    """Trains, kills and compares."""
    own, given = table.apart(argv[1:], _VALUES)
    options = _options([argv[0], *own])

    from jaxlm.config import flags  # after parsing, so that --help answers at once

    recipe = flags.parse(["train", *given]).run  # what is wrong shows before anything runs
    platform, present = local.machine()
    names = options.on or (_VIRTUAL if platform == "cpu" else f"{present},1x{present}")
    topologies = [Topology.parse(name) for name in names.split(",")]
    for one in topologies:
        if platform != "cpu" and (one.devices, one.processes) != (present, 1):
            raise UserError(
                f"--on={one.text}: this machine has {present} {platform} devices, which one process uses together. "
                f"Fix: topologies of {present}, such as {present} or 1x{present}."
            )
    if options.steps * len(topologies) >= recipe.steps:
        raise UserError(
            f"--steps={options.steps} on {len(topologies)} topologies, and the run has {recipe.steps} steps: it must "
            f"have more. Fix: --steps={max((recipe.steps - 1) // len(topologies), 1)}, or a longer run."
        )
    root = pathlib.Path(options.workdir or tempfile.mkdtemp(prefix="jaxlm-verify-resume-"))
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise UserError(
            f"--workdir={root} is not empty: its runs would go on. Fix: another folder, or remove it."
        )
    proof = _Proof(root, given, options.steps, topologies, virtual=platform == "cpu")
    problems = proof.run(options.tolerance)
    if problems:
        print("\n".join(["NOT the same:", *(f"  {one}" for one in problems), f"The folders stay: {root}"]))
        return EXIT_NUMERICAL
    print("killed and resumed, here and elsewhere: the same", flush=True)
    if not options.workdir:
        shutil.rmtree(root)
    return EXIT_DONE


@dataclasses.dataclass(frozen=True)
class _Proof:
    root: pathlib.Path
    given: Sequence[str]  # recipe and options of the user
    steps: int  # on each topology
    topologies: Sequence[Topology]
    virtual: bool

    def run(self, tolerance: float) -> list[str]:
        """What is not the same, in words; prints what is."""
        first, steps, last = self.topologies[0], self.steps, self.steps * len(self.topologies)
        print(f"{first.text}: {last} steps, not killed", flush=True)
        self._train("whole", first)
        print(f"{first.text}: killed after {steps} steps, goes on on {first.text}", flush=True)
        self._train("again", first, kill=steps)
        self._train("again", first)
        for number, one in enumerate(self.topologies[:-1], 1):
            print(f"{one.text}: {steps} steps, killed; goes on on {self.topologies[number].text}", flush=True)
            self._train("moved", one, kill=number * steps)
        self._train("moved", self.topologies[-1])
        problems = _different("again", self._bits("again", last, first), self._bits("whole", last, first))
        for number, one in enumerate(self.topologies[1:], 1):
            before = self._bits("moved", number * steps, self.topologies[number - 1])
            problems += _different(
                f"restored on {one.text}", self._bits("moved", number * steps, one), before
            )
        streams = {name: self._meta(name, last)["stream"] for name in ("whole", "again", "moved")}
        problems += [f"{name}: other rows were read" for name in streams if streams[name] != streams["whole"]]
        losses = {name: self._losses(name) for name in ("whole", "moved")}
        if losses["whole"].keys() != losses["moved"].keys() or len(losses["whole"]) != last:
            return [*problems, f"steps {sorted(losses['moved'])} were logged, of {last}"]
        for number, one in enumerate(self.topologies):
            own = range(number * steps + 1, (number + 1) * steps + 1)
            off = max(abs(losses["moved"][k] / losses["whole"][k] - 1) for k in own)
            print(f"  steps {own[0]} to {own[-1]} on {one.text}: loss off by {off:.1e} at most", flush=True)
            if not off <= tolerance:
                problems.append(f"on {one.text} the loss is off by {off:.1e}, allowed is {tolerance:.1e}")
        return problems

    def _train(self, name: str, topology: Topology, kill: int = 0) -> None:
        """UserError where it ends otherwise than it should."""
        last = self.steps * len(self.topologies)
        words = [
            "-m", "jaxlm", "train", *self.given, *topology.words, f"--workdir={self.root / name}",
            f"--config.checkpoint.every_steps={self.steps}",
            f"--config.checkpoint.keep.every_steps={self.steps}", "--config.logging.every_steps=1",
            "--config.evaluation.every_steps=0", "--allow-config-change=True",
        ]  # fmt: skip
        # Not ended by fewer steps, which would be another schedule.
        fault = f"kill@step={kill}:phase=save_committed" if kill else f"term@step={last}"
        code = self._started(words, topology, self.root / f"{name}.log", {"JAXLM_FAULT": fault})
        if code != (-signal.SIGKILL if kill else EXIT_RESUMABLE):
            said = (self.root / f"{name}.log").read_text()[-3000:]
            raise UserError(f"the run on {topology.text} ended with {code}:\n{said}")

    def _bits(self, name: str, step: int, topology: Topology) -> Mapping[str, str]:
        """SHA-256 of every array of a checkpoint, restored on a topology."""
        found = self.root / f"{name}-{step}-{topology.text}.json"
        words = ["-m", "jaxlm.training.restored", str(self.root / name), str(step), str(found)]
        log = self.root / "restored.log"
        if code := self._started([*words, *map(str, topology.sizes)], topology, log, {}):
            raise UserError(f"restoring on {topology.text} ended with {code}:\n{log.read_text()[-3000:]}")
        return json.loads(found.read_text())

    def _started(
        self, words: Sequence[str], topology: Topology, log: pathlib.Path, environment: Mapping[str, str]
    ) -> int:
        return local.run(
            words,
            log,
            processes=topology.processes,
            devices=topology.devices,
            virtual=self.virtual,
            environment=environment,
        )

    def _meta(self, name: str, step: int) -> Mapping[str, object]:
        from jaxlm.checkpoint.store import Checkpoints

        return Checkpoints(self.root / name / "checkpoints", None).meta(step)

    def _losses(self, name: str) -> dict[int, float]:
        lines = metrics.read(self.root / name)
        return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


def _different(name: str, one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    if not one or one.keys() != other.keys():
        return [f"{name}: other arrays ({len(one)} and {len(other)})"]
    off = [path for path in one if one[path] != other[path]]
    print(f"  {name}: {len(one) - len(off)} of {len(one)} arrays have the same bits", flush=True)
    return [f"{name}: {len(off)} of {len(one)} arrays have other bits, such as {off[0]}"] if off else []


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = table.Parser(__name__, __doc__)
    add = parser.add_argument
    add(
        "--on",
        default="",
        metavar="A,B",
        help=f"topologies in order; default: {_VIRTUAL} on a CPU, else N and 1xN",
    )
    add("--steps", type=int, default=3, metavar="N", help="on each; default: 3")
    add(
        "--tolerance",
        type=float,
        default=1e-5,
        metavar="X",
        help="relative, of losses elsewhere; default: 1e-5",
    )
    add(
        "--workdir",
        default="",
        metavar="DIR",
        help="for its runs; default: a temporary folder, removed in the end",
    )
    found = parser.options(argv)
    if found.steps < 1:
        raise UserError(f"--steps={found.steps}: at least 1.")
    return found


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
