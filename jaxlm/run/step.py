"""The only jitted training functions. In: a model, the tasks, an optimizer. Out: pure functions of (state, batches).

Guarantees: the gradient is that of the whole batch whatever the number of micro-batches (every term is divided by its
weight over the whole batch); a step whose loss or gradient is not finite changes nothing but the counters; all
randomness follows from (seed, step).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlm.batch import Batches, Pair
from jaxlm.optim import ema as averages
from jaxlm.optim import transforms

Measures = dict[str, Pair]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that training changes, and nothing that it leaves as it is. Parameters and moments are float32."""

    step: jax.Array  # int32: batches consumed, skipped ones included
    params: Any
    opt_state: Any
    ema: Any  # moving average of params, or None
    skipped: jax.Array  # int32: non-finite steps so far
    skipped_in_a_row: jax.Array  # int32


def new_state(params: Any, optimizer: optax.GradientTransformation, *, ema: bool) -> TrainState:
    """The state before the first step."""
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        zero, params, optimizer.init(params), averages.init(params) if ema else None, zero, zero
    )


Update = Callable[..., tuple[TrainState, Any]]  # (state, gradient, loss) -> (new state, scalars)
Bind = Callable[[Any, Any], Any]  # (trained, frozen) -> the model over both, for use within one trace


def make_train_step(
    bind: Bind,
    objective: Any,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    average_from: int = 0,
    dropout_generator: str = "threefry2x32",
    beside_average: bool = False,
    in_turns: Callable[[Update], Update] = lambda update: update,
) -> Callable[[TrainState, Any, Batches], tuple[TrainState, Measures]]:
    """One optimizer step: (state, frozen, batches of B rows) -> (state, measures as (sum, weight)).

    `objective` is a MultiTask. No gradient is formed of what is frozen. B must be divisible by `accumulate`;
    micro-batch a takes rows a, a + accumulate, ..., so that every device splits its own rows. `beside_average`: `bind`
    gets the average in place of what is frozen. `in_turns`: executes the update of a state that is not all on the
    devices (`partition.hosted`).
    """

    def average(ema: Any, params: Any, step: jax.Array) -> Any:
        if ema_decay:
            return averages.update(ema, params, step, ema_decay)
        return averages.tail(ema, params, step, average_from)

    def gradient(
        params: Any, frozen: Any, batch: Batches, weights: dict, key: jax.Array
    ) -> tuple[Any, Measures]:
        def loss(params: Any) -> tuple[jax.Array, Measures]:
            out = objective.loss(bind(params, frozen), batch, key)
            # What a model adds by itself (Encoded.terms) is a mean over every micro-batch of its own.
            whole = {name: accumulate * weight for name, (_, weight) in out.terms.items()} | weights
            # A term without weight is 0 / 1, so that it counts nothing; NaN stays NaN.
            shares = [s / jnp.where(whole[k] == 0, 1.0, whole[k]) for k, (s, _) in out.terms.items()]
            total = sum(shares, start=jnp.zeros(()))
            return total, {"loss": (total, jnp.ones(())), **out.measures}

        (_, measures), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return grads, measures

    def accumulated(params: Any, frozen: Any, batch: Batches, key: jax.Array) -> tuple[Any, Measures]:
        weights = objective.weights(batch)
        if accumulate == 1:
            return gradient(params, frozen, batch, weights, key)
        micro = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0), batch)
        keys = jax.random.split(key, accumulate)

        def one(total: Any, inputs: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradient(params, frozen, inputs[0], weights, inputs[1])), None

        like = jax.eval_shape(gradient, params, frozen, jax.tree.map(lambda x: x[0], micro), weights, keys[0])
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        grads, measures = jax.lax.scan(one, zeros, (micro, keys))[0]
        # The micro-batch losses already are shares of the whole batch's: their sum is its loss, with weight one.
        return grads, {**measures, "loss": (measures["loss"][0], jnp.ones(()))}

    def update(state: TrainState, grads: Any, loss: jax.Array) -> tuple[TrainState, Any]:
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        optimized = transforms.measures(opt_state)
        finite = jnp.isfinite(optimized["grad_norm"]) & jnp.isfinite(loss)
        params = optax.apply_updates(state.params, updates)
        ema = None if state.ema is None else average(state.ema, params, state.step)
        kept = lambda new, old: jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
        new = TrainState(
            step=state.step + 1,
            params=kept(params, state.params),
            opt_state=kept(opt_state, state.opt_state),
            ema=kept(ema, state.ema),
            skipped=state.skipped + (1 - finite.astype(jnp.int32)),
            skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
        )
        return new, (optimized, finite)

    def step(state: TrainState, frozen: Any, batch: Batches) -> tuple[TrainState, Measures]:
        # Drawn here, as the devices of a mesh may only be described. Purpose 1: 0 is the initial weights'.
        key = jax.random.fold_in(jax.random.key(seed, impl=dropout_generator), 1)
        beside = state.ema if beside_average else frozen
        grads, measures = accumulated(state.params, beside, batch, jax.random.fold_in(key, state.step))
        new, (optimized, finite) = in_turns(update)(state, grads, measures["loss"][0])
        return new, _report({**measures, **_single(optimized)}, finite, new, batch)

    return step


def make_eval_step(bind: Bind, objective: Any) -> Callable[[Any, Any, Batches], Measures]:
    """(trained, frozen, batches) -> measures as (sum, weight), no dropout; `loss/<term>` holds every term."""

    def step(params: Any, frozen: Any, batch: Batches) -> Measures:
        out = objective.loss(bind(params, frozen), batch, None)
        return {**{f"loss/{name}": pair for name, pair in out.terms.items()}, **out.measures}

    return step


def _single(values: dict[str, jax.Array]) -> Measures:
    return {name: (value, jnp.ones(())) for name, value in values.items()}


def _useful_tokens(batch: Batches) -> jax.Array:
    """Tokens that are not padding, of all tasks; of an encoder-decoder both rows."""
    rows = [b for task in batch.values() for b in (task.segments_BT, task.source_segments_BS)]
    return jnp.stack([(segments > 0).sum() for segments in rows if segments is not None]).sum()


def _report(measures: Measures, finite: jax.Array, new: TrainState, batch: Batches) -> Measures:
    """The measures of a step; a skipped step counts only in the counters, so that no window turns NaN."""
    shown = {k: (jnp.where(finite, s, 0.0), jnp.where(finite, w, 0.0)) for k, (s, w) in measures.items()}
    counters = {
        "useful_tokens": _useful_tokens(batch),
        "skipped_steps": new.skipped,
        "skipped_in_a_row": new.skipped_in_a_row,
    }
    return {**shown, **_single({name: value.astype(jnp.float32) for name, value in counters.items()})}
