"""What the tests of jaxlm.views share: tiny runs of an encoder, a decoder and an encoder-decoder, and their batches."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxlm.batch import Batch
from jaxlm.config import Run, Stage
from jaxlm.models.bert import Bert
from jaxlm.models.llama import Llama
from jaxlm.models.rope import Rope, Unscaled
from jaxlm.models.t5 import T5
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.objectives.span_corruption import SpanCorruption
from jaxlm.objectives.targets import TokenTargets
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh
from jaxlm.run.program import Program
from tests.recipes import tiny

V, D, F = 101, 24, 40  # sizes of every model here
ROWS, LENGTH = 8, 11

BERT = Bert(
    vocab_size=V,
    hidden=D,
    layers=2,
    heads=4,
    mlp=F,
    max_positions=LENGTH,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.1,
    position_init="normal",
)
LLAMA = Llama(
    vocab_size=V,
    hidden=D,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=6,
    mlp=F,
    activation="silu",
    max_positions=LENGTH,
    rope=Rope(base=10000.0, scaling=Unscaled()),
    norm_epsilon=1e-5,
    embeddings="tied",
    biases="none",
    qk_norm="none",
    windows=(0,),
    init_scale=0.1,
)
T5_ = T5(
    vocab_size=V,
    hidden=D,
    encoder_layers=2,
    decoder_layers=2,
    heads=4,
    head_dim=6,
    mlp=F,
    activation="gelu_tanh",
    gate="gated",
    head="scaled",
    buckets=8,
    max_distance=16,
    dropout=0.0,
    norm_epsilon=1e-6,
    init_factor=1.0,
)
MODELS = {"bert": BERT, "llama": LLAMA, "t5": T5_}
_OBJECTIVES = {
    "bert": tiny.get_config().objective,
    "llama": CausalLM(z_loss=0.0, label_smoothing=0.0),
    "t5": SpanCorruption(z_loss=0.0, label_smoothing=0.0, density=0.15, mean_span=3.0, decoder_start="pad"),
}


def run(name: str, *view: Any, **changes: Any) -> Run:
    """The tiny run with this model, and an objective for it."""
    base = tiny.get_config()
    base.optimizer.epsilon = 1e-6
    given: dict[str, Any] = {"model": MODELS[name], "objective": _OBJECTIVES[name], "view": view}
    stages = (Stage(length=LENGTH, share=1.0),)
    return dataclasses.replace(base, stages=stages, batch_size=ROWS, **given, **changes)


def program(run: Run, **axes: int) -> Program:
    """On all devices with these axes of a mesh, else on one."""
    mesh = meshes.make(Mesh(**{"data": 1, **axes}), jax.devices()) if axes else one_device()
    return Program.of(run, mesh)


def one_device() -> jax.sharding.Mesh:
    """A mesh of the first device."""
    return meshes.make(Mesh(), jax.devices()[:1])


def batch(name: str, seed: int = 0) -> Batch:
    """Full rows, everything asked about."""
    rng = np.random.default_rng(seed)
    ids = lambda: rng.integers(1, V, (ROWS, LENGTH), dtype=np.int32)
    places = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
    row = {"tokens": ids(), "segments": np.ones((ROWS, LENGTH), np.int32), "positions": places}
    given: dict[str, Any] = {f"{field}_BT": values for field, values in row.items()}
    targets = TokenTargets(
        ids_BM=ids(),
        weights_BM=np.ones((ROWS, LENGTH), np.float32),
        places_BM=places if name == "bert" else None,
    )
    if name == "t5":
        given |= {f"source_{field}_BS": values for field, values in (row | {"tokens": ids()}).items()}
    return Batch(**given, types_BT=np.zeros_like(places), targets=targets)


def perturbed(arrays: Any, seed: int = 1) -> Any:
    """Arrays with noise, so that nothing is zero any more."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: np.asarray(a) + rng.normal(size=a.shape, scale=0.05).astype("f"), arrays)


def steps(program: Program, params: Any, number: int, name: str) -> tuple[Any, Any, list[dict[str, float]]]:
    """(state, frozen, means of every step) after some steps from these parameters, which are kept."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, program.params)
    with jax.set_mesh(program.mesh):
        state, frozen = program.start(jax.device_put(jax.device_get(params), shardings))
        step, means = program.train_step(), []
        for seed in range(number):
            data = jax.device_put({"": batch(name, seed)}, partition.batch_sharding(program.mesh))
            state, measures = step(state, frozen, data)
            means.append({key: float(s) / float(w) for key, (s, w) in jax.device_get(measures).items()})
    return state, frozen, means


def products(made: Program, name: str) -> list[tuple[int, ...]]:
    """Shapes of all results of matrix products and scatters in the gradient of what is trained."""

    def loss(trained, frozen):
        terms = made.tasks.loss(made.bind(trained, frozen), {"": batch(name)}, None).terms
        return sum(total for total, _ in terms.values())

    found = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("dot_general", "scatter-add"):
                found.append(equation.outvars[0].aval.shape)
            for inner in jax.tree.leaves(list(equation.params.values())):
                if isinstance(inner, core.Jaxpr | core.ClosedJaxpr):
                    walk(getattr(inner, "jaxpr", inner))

    walk(jax.make_jaxpr(jax.grad(loss))(made.state.params, made.frozen).jaxpr)
    return found
