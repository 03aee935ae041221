"""One assembly of a run's program. In: a Run and a mesh (of devices, or described ones). Out: model, shapes, steps.

Whoever trains, measures, plans or compiles a run takes it from here, so that all of them mean the same program. Nothing
is computed and nothing is read: shapes first, arrays when `parameters` and `start` are called.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax

from jaxlm.batch import Batches, Row, Vocabulary
from jaxlm.config import Run, Stage
from jaxlm.errors import UserError
from jaxlm.models import build, parted, pipeline
from jaxlm.models.moved import Moved
from jaxlm.models.taught import Taught
from jaxlm.objectives import multi_task
from jaxlm.objectives.multi_task import MultiTask
from jaxlm.optim.horizon import Horizon
from jaxlm.partition import hosted, rules
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import lines, row_devices
from jaxlm.run.step import TrainState, make_eval_step, make_train_step, new_state
from jaxlm.runtime import xla_flags
from jaxlm.views import Chain
from jaxlm.views.view import Facts, facts

TEACHER = "teacher"  # its place among what is frozen; views have numbers
_WEIGHTS, _VIEW = 0, 2  # purposes of the run's key; 1 is the dropout of step.py


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A run on a mesh. Abstract trees are ShapeDtypeStructs with their shardings."""

    run: Run
    mesh: jax.sharding.Mesh
    model: build.Model
    tasks: MultiTask  # what a step trains
    view: Chain
    facts: dict[str, Facts]  # of all parameters
    optimizer: optax.GradientTransformation
    params: Any  # abstract: everything the model reads
    state: TrainState  # abstract: what training changes
    owners: list[partition.Path]  # of every array of the state the parameter that it belongs to
    frozen: Any  # abstract: what the view leaves as it is, and the weights of the teacher
    teacher: build.Model | None = None

    @classmethod
    def of(cls, run: Run, mesh: jax.sharding.Mesh) -> "Program":
        """UserError for a view that finds nothing to do in the model."""
        model = build.build(run.model, run.heads, dtype=precision(run, mesh))
        view, of_params = Chain(tuple(run.view)), facts(model)
        seen = of_params
        for number, one in enumerate(run.view):
            one.check(seen, f"config.view[{number}]")
            seen = one.facts(seen)
        axes = view.axes(of_params)
        horizon = _horizon(run)
        optimizer = view.optimizer(run.optimizer.make(horizon, axes), horizon.total_steps)
        _average_from(run)  # refused before anything is made
        _check_average(run)
        key = jax.random.key(run.seed)
        params = model.shapes
        trained, frozen = jax.eval_shape(lambda params: view.split(params, of_params, key), params)
        state = jax.eval_shape(lambda trained: new_state(trained, optimizer, ema=run.averages), trained)
        of_weights = rules.of_weights(run.mesh.fsdp_splits)
        placed = dataclasses.replace(
            _placed(state, axes, mesh), params=_placed(state.params, axes, mesh, of_weights)
        )
        owners = partition.owners(state, axes)
        if run.mesh.optimizer_memory == "host":
            hosted.check(mesh.devices.flat[0], "config.mesh")
            placed = _hosted(placed, owners)
        teacher, weights = _teacher(run, mesh, of_weights)
        return cls(
            run=run,
            mesh=mesh,
            model=model,
            tasks=multi_task.of(run.objective, run.batch_size),
            view=view,
            facts=of_params,
            optimizer=optimizer,
            params=_placed(params, model.axes, mesh, of_weights),
            state=placed,
            owners=owners,
            frozen=_placed(frozen, view.frozen_axes(of_params, frozen), mesh, of_weights) | weights,
            teacher=teacher,
        )

    @property
    def schedule(self) -> pipeline.Schedule:
        """How the parts of a batch go through the stages."""
        rows = self.run.batch_size // (row_devices(self.mesh) * self.run.accumulate)
        repeats = getattr(self.run.model, "stage_repeats", 1)
        return pipeline.Schedule.of(rows, self.mesh.shape[pipeline.STAGE], repeats)

    def bind(self, trained: Any, frozen: Any) -> Any:
        """The module over what is trained and what is frozen, for use within one trace."""
        return self._taught(self.model.bind(self.view.merge(trained, frozen)), frozen)

    def _taught(self, module: Any, frozen: Any) -> Any:
        """The module beside its teacher, where the teacher is at hand: an evaluation does without."""
        if self.teacher is None or TEACHER not in frozen:
            return module
        return Taught(module, self.teacher.bind(frozen[TEACHER]))

    def _bind_parted(self, trained: Any, frozen: Any) -> Any:
        """`bind`, with the gradients of weights in parts where weights or moments are."""
        axis = "fsdp"
        others = [
            self.mesh.shape[name] for name in ("tensor", "context")
        ]  # with them the partitioner knows better
        if self.run.view or self.mesh.shape[axis] == 1 or max(others) > 1:
            return self.bind(trained, frozen)
        count, where = lines(self.mesh, axis), partition.shardings(self.params, self.model.axes, self.mesh)

        def made(names: tuple[str, ...], array: Any, at: Any) -> Any:
            is_vector = len([name for name in names if name != "layers"]) < 2  # which no product sums
            return array if is_vector else parted.of(array, at.spec, axis, count)

        is_names = lambda node: isinstance(node, tuple)
        parts = jax.tree.map(made, self.model.axes, trained, where, is_leaf=is_names)
        return self._taught(self.model.bind(parts), frozen)

    def _bind_near(self, trained: Any, average: Any) -> Any:
        """The module over what is trained, beside its average."""
        average = hosted.on_device(average, self.state.ema)
        return self.model.bind(jax.tree.map(Moved, trained, average))

    def parameters(self) -> Any:
        """Fresh parameters, each created where it belongs."""
        key = jax.random.fold_in(jax.random.key(self.run.seed), _WEIGHTS)
        return jax.jit(self.model.init, out_shardings=shardings(self.params))(key)

    def start(self, params: Any) -> tuple[TrainState, Any]:
        """(state before the first step, frozen) of these parameters, which are used up."""
        trained, frozen = self.split(params)
        begin = lambda trained: new_state(trained, self.optimizer, ema=self.run.averages)
        return jax.jit(begin, out_shardings=shardings(self.state), donate_argnums=0)(trained), frozen

    def split(self, params: Any) -> tuple[Any, Any]:
        """(trained, frozen) of parameters, which are used up."""
        if not self.run.view:
            return params, {}
        key = jax.random.fold_in(jax.random.key(self.run.seed), _VIEW)
        kept = {name: part for name, part in self.frozen.items() if name != TEACHER}
        where = (shardings(self.state.params), shardings(kept))
        cut = jax.jit(lambda p: self.view.split(p, self.facts, key), out_shardings=where, donate_argnums=0)
        return cut(params)

    def train_step(self) -> Any:
        """(state, frozen, batches) -> (state, measures), jitted; the state is donated."""
        step = make_train_step(
            self._bind_near if self.tasks.needs_average else self._bind_parted,
            self.tasks,
            self.optimizer,
            seed=self.run.seed,
            accumulate=self.run.accumulate,
            ema_decay=self.run.ema_decay,
            average_from=_average_from(self.run),
            dropout_generator=dropout_generator(self.run, self.mesh),
            beside_average=self.tasks.needs_average,
            in_turns=hosted.Turns(self.state, self.owners),
        )
        # Without out_shardings some arrays come back sharded otherwise, and the second step compiles again.
        where, options = (shardings(self.state), None), self.compiler_options() or None
        return jax.jit(step, donate_argnums=0, out_shardings=where, compiler_options=options)

    def evaluated(self, state: TrainState) -> Any:
        """The weights of a state that are evaluated, on the devices."""
        return state.params if state.ema is None else hosted.on_device(state.ema, self.state.ema)

    def compiler_options(self) -> dict[str, bool]:
        """Of the train step."""
        if self.run.compiler_options == "none":
            return {}
        return xla_flags.options(self.mesh.devices.flat[0].device_kind, self.mesh.size)

    def eval_step(self) -> Callable[[Any, Any, Batches], dict]:
        """(trained, frozen, batches) -> measures, jitted."""
        alone = lambda trained, frozen: self.model.bind(self.view.merge(trained, frozen))
        return jax.jit(make_eval_step(alone, self.tasks))

    def batches(self, stage: Stage, vocabulary: Vocabulary) -> Batches:
        """The abstract batches of a stage's steps; of the vocabulary only the special tokens matter."""
        return {task.name: self._batch(task, stage, vocabulary) for task in self.tasks.tasks}

    def _batch(self, task: multi_task.Task, stage: Stage, vocabulary: Vocabulary) -> Any:
        objective = task.objective
        length = objective.plan_length(stage.length)
        row, slots = np.zeros(length, np.int32), objective.max_items(length)
        empty = Row(
            tokens_T=row,
            segments_T=row,
            positions_T=row,
            texts_T=row,
            first_C=np.zeros(slots, np.int32),
        )
        prepared = objective.prepare(empty, vocabulary, np.random.default_rng(0), train=True)
        rows = partition.batch_sharding(self.mesh)
        shape = lambda v: jax.ShapeDtypeStruct((task.rows, *v.shape), v.dtype, sharding=rows)
        return jax.tree.map(shape, prepared)


def shardings(abstract: Any) -> Any:
    """Of an abstract tree."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def as_dtype(tree: Any, dtype: str) -> Any:
    """Weights, or their shapes, in another dtype."""

    def cast(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding)
        return leaf.astype(dtype)

    return jax.tree.map(cast, tree)


def _teacher(run: Run, mesh: jax.sharding.Mesh, by: rules.Rules) -> tuple[build.Model | None, dict[str, Any]]:
    """What `config.teacher` is, once `teacher_model` is known, and its weights (abstract) by `TEACHER`."""
    if run.teacher_model is None:
        return None, {}
    dtype = precision(run, mesh) if run.teacher_precision == "auto" else run.teacher_precision
    model = build.build(run.teacher_model, run.objective.teacher_heads(run.teacher_model), dtype=dtype)
    return model, {TEACHER: as_dtype(_placed(model.shapes, model.axes, mesh, by), dtype)}


def precision(run: Run, mesh: jax.sharding.Mesh) -> Literal["float32", "bfloat16"]:
    """The dtype of compute: `auto` is bfloat16 where the hardware has it fast (TPU, GPU), else float32."""
    if run.precision != "auto":
        return run.precision
    return "float32" if _platform(mesh) == "cpu" else "bfloat16"


def dropout_generator(run: Run, mesh: jax.sharding.Mesh) -> str:
    """`auto`: rbg on TPU, where threefry is slow and, compiled ahead of time, crashes libtpu; else threefry2x32."""
    if run.dropout_generator != "auto":
        return run.dropout_generator
    return "rbg" if _platform(mesh) == "tpu" else "threefry2x32"


def _platform(mesh: jax.sharding.Mesh) -> str:
    return mesh.devices.flat[0].platform


def _hosted(state: TrainState, owners: list[partition.Path]) -> TrainState:
    """Shapes whose moments and averages lie in the host's memory."""
    leaves, structure = jax.tree.flatten(state)
    moved = [hosted.on_host(x) if owner else x for x, owner in zip(leaves, owners, strict=True)]
    return dataclasses.replace(jax.tree.unflatten(structure, moved), params=state.params)


def _horizon(run: Run) -> Horizon:
    lengths = [run.batch_size * stage.length for stage in run.stages]
    return Horizon(
        tuple((last - first, n) for (first, last), n in zip(run.stage_steps(), lengths, strict=True))
    )


def _average_from(run: Run) -> int:
    """UserError for a duration that leaves nothing to average."""
    if not run.average_from:
        return 0
    first = _horizon(run).steps(run.average_from, "config.average_from")
    if first >= run.steps:
        raise UserError(
            f"config.average_from={run.average_from!r}: the run ends at step {run.steps}, before it."
        )
    return first


def _check_average(run: Run) -> None:
    """UserError where an objective compares with an average that there is not."""
    if not run.objective.needs_average:
        return
    if not run.ema_decay:
        raise UserError(
            "config.objective compares with the average of the weights (Proximal), and config.ema_decay=0 keeps none. "
            "Fix: --config.ema_decay=0.999."
        )
    if run.view:
        raise UserError(
            f"config.view={tuple(run.view)}: Proximal compares all weights with their average, which a view does not "
            'keep. Fix: "--config.view=()", or another objective.'
        )


def _placed(abstract: Any, axes: Any, mesh: jax.sharding.Mesh, by: rules.Rules = rules.RULES) -> Any:
    return partition.with_shardings(abstract, partition.shardings(abstract, axes, mesh, by))
