"""A trace of some steps, for XProf. In: the steps that go by. Out: plugins/profile/<steps>/<host>.xplane.pb.

Every host writes its own file; XProf (`tensorboard --logdir=`) shows them as one session. Guarantees: a trace ends when
its last step has run on the devices, or with the run; one that cannot be written costs a warning line.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

STEP = "train"  # the name of a step in the trace


class Trace:
    """Traces `steps` (numbers of the log) into `folder`. `settle` waits for what is on the devices."""

    def __init__(
        self, steps: range, folder: Path, *, settle: Callable[[], object], say: Callable[[str], None]
    ) -> None:
        self._left, self._folder, self._settle, self._say = steps, folder, settle, say
        self._running = False

    def resume(self, step: int) -> None:
        """The run goes on after `step`: what is left of the steps is traced."""
        if self._left and step >= self._left.start:
            asked, self._left = self._left, range(step + 1, self._left.stop)
            left = f"{_named(self._left)} are left" if self._left else "nothing is left"
            self._say(f"profile: the run goes on after step {step}: of {_named(asked)}, {left} to be traced")

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Around a step."""
        if step in self._left and not self._running:
            self._start()
        with jax.profiler.StepTraceAnnotation(STEP, step_num=step):
            yield
        if step == self._left.stop - 1:
            self.close()

    def close(self) -> None:
        """Ends a trace that is running. Safe to call twice."""
        if not self._running:
            return
        self._running, self._left = False, range(0)
        try:
            self._settle()
        finally:
            self._stop()

    def _start(self) -> None:
        options = jax.profiler.ProfileOptions()
        options.session_id = _named(self._left).replace(" ", "-")  # one for all hosts, whose clocks differ
        options.python_tracer_level = 0  # a compilation in between is a million calls, and pushes out steps
        try:
            jax.profiler.start_trace(self._folder, profiler_options=options)
            self._running = True
        except (RuntimeError, OSError) as error:
            self._failed(error)

    def _stop(self) -> None:
        try:
            jax.profiler.stop_trace()
            self._say(f"profile: written to {self._folder}; view it with tensorboard --logdir={self._folder}")
        except (RuntimeError, OSError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._left = range(0)
        self._say(f"WARNING: no profile in {self._folder}: {str(error).splitlines()[0]}")


def _named(steps: range) -> str:
    return f"steps {steps.start} to {steps.stop - 1}"
