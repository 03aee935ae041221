import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Loss
from jaxlm.errors import UserError
from jaxlm.objectives import multi_task
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.objectives.objective import Objective


@dataclasses.dataclass(kw_only=True)
class Sum(Objective):
    """Loss: the sum of its numbers; the key makes it larger."""

    whole: bool = False

    @property
    def whole_batch(self):  # pyright: ignore
        return self.whole

    def weights(self, batch):
        return {"sum": jnp.float32(batch.size)}

    def loss(self, model, batch, key):
        noise = 0.0 if key is None else jax.random.uniform(key)
        pair = (batch.sum() * model + noise, jnp.float32(batch.size))
        return Loss({"sum": pair}, {"sum_loss": pair})


def two(**settings) -> MultiTask:
    return MultiTask(
        tasks=(
            Task(name="one", objective=Sum(**settings), weight=2.0, rows=3),
            Task(name="other", objective=Sum(), weight=0.5, rows=5),
        )
    )


BATCH = {"one": np.arange(3.0), "other": np.arange(5.0) + 7}


def test_the_loss_is_the_weighted_sum_of_the_tasks_means():
    loss, weights = two().loss(3.0, BATCH, None), two().weights(BATCH)
    assert set(loss.terms) == set(weights) == {"one/sum", "other/sum"}
    total = sum(float(s) / float(weights[name]) for name, (s, _) in loss.terms.items())
    assert total == pytest.approx(2.0 * 3.0 * BATCH["one"].mean() + 0.5 * 3.0 * BATCH["other"].mean())
    one, other = loss.measures["one/sum_loss"], loss.measures["other/sum_loss"]
    assert (float(one[0]), float(other[0])) == (9.0, 135.0), "measures are those of the task alone"


def test_tasks_draw_from_keys_of_their_own_and_a_task_alone_draws_the_same():
    key = jax.random.key(3)
    loss = two().loss(0.0, BATCH, key)
    one, other = (float(loss.measures[f"{name}/sum_loss"][0]) for name in ("one", "other"))
    assert one != other
    alone = two().loss(0.0, {"other": BATCH["other"]}, key)
    assert set(alone.terms) == {"other/sum"} and float(alone.measures["other/sum_loss"][0]) == other


@pytest.mark.parametrize("key", [None, 3])
def test_one_objective_is_a_task_that_changes_neither_numbers_nor_names(key):
    key = None if key is None else jax.random.key(key)
    alone, one = Sum(), multi_task.of(Sum(), 3)
    found = one.loss(5.0, {"": BATCH["one"]}, key)
    assert found == alone.loss(5.0, BATCH["one"], key)
    assert one.weights({"": BATCH["one"]}) == alone.weights(BATCH["one"]) == {"sum": 3.0}
    assert (one.tasks[0].rows, one.tasks[0].of("sum_loss")) == (3, "sum_loss")
    assert multi_task.of(two(), 8) == two(), "tasks stay as they are"


def test_rows_that_do_not_make_a_batch_are_refused():
    two().check_batch(8, 1, "config")
    with pytest.raises(UserError, match=r"config.batch_size=9: .*3 \(one\) \+ 5 \(other\) = 8"):
        two().check_batch(9, 1, "config")
    with pytest.raises(UserError, match=r"config.objective.tasks\[0\].rows=3 must be divisible by .*=2"):
        two().check_batch(8, 2, "config")


def test_a_task_that_needs_the_whole_batch_refuses_micro_batches():
    tasks = tuple(dataclasses.replace(task, rows=4) for task in two(whole=True).tasks)
    MultiTask(tasks=tasks).check_batch(8, 1, "config")
    with pytest.raises(UserError, match=r"config.accumulate=2: the loss of Sum"):
        MultiTask(tasks=tasks).check_batch(8, 2, "config")


def test_names_weights_and_rows_that_cannot_work_are_user_errors():
    good = two().tasks[0]
    for change in ({"name": "a/b"}, {"name": ""}, {"weight": 0.0}, {"weight": float("nan")}, {"rows": 0}):
        (field,) = change
        with pytest.raises(UserError, match=rf"tasks\[0\].{field}="):
            dataclasses.replace(good, **change).validate("tasks[0]")
    with pytest.raises(UserError, match="itself a MultiTask"):
        dataclasses.replace(good, objective=two()).validate("tasks[0]")
    for tasks in ((), (good, good)):
        with pytest.raises(UserError, match="every name once"):
            MultiTask(tasks=tasks).validate("objective")
