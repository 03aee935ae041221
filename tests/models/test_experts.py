"""Claims about a mixture of experts: numpy's sums, nothing dropped, padding left out, and the same on every mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from jaxlm.models.experts import Experts, Routed, balance, z
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
B, T, D, F, E, J = 8, 7, 12, 20, 8, 3
FORWARD, GRADIENT = 1e-5, 3e-5
MESHES = {
    "expert": Mesh(data=1, expert=8),
    "data x expert": Mesh(data=4, expert=2),
    "fsdp x expert x tensor": Mesh(data=1, fsdp=2, expert=2, tensor=2),
    "data x tensor": Mesh(data=4, tensor=2),
}


def module(experts=E):
    rng = np.random.default_rng(0)
    made = Experts(
        nnx.Rngs(params=0), width=D, hidden=F, experts=experts, choices=J, activation="silu", scale=1.0,
        dtype=jnp.dtype("float32"),
    )  # fmt: skip
    graph, state = nnx.split(made)
    weights = {name: rng.normal(size=x.shape).astype("f") for name, x in nnx.to_pure_dict(state).items()}
    return graph, weights


def inputs(rows=B):
    rng = np.random.default_rng(1)
    segments = (np.arange(T)[None] < rng.integers(2, T + 1, rows)[:, None]).astype(np.int32)
    return rng.normal(size=(rows, T, D)).astype("f"), segments


def expected(weights, x, segments):
    """float64, token by token."""
    w, y = {name: value.astype(float) for name, value in weights.items()}, np.zeros(x.shape)
    for b, t in np.argwhere(segments > 0):
        token = x[b, t].astype(float)
        odds = np.exp(token @ w["router"])
        best = np.argsort(-odds)[:J]
        for e in best:
            gate = token @ w["w_gate"][e]
            hidden = gate / (1 + np.exp(-gate)) * (token @ w["w_in"][e])
            y[b, t] += odds[e] / odds[best].sum() * (hidden @ w["w_out"][e])
    return y


def to_one_expert(weights):
    """The J experts that every token chooses: the first ones, whatever is in it."""
    router = np.zeros((D, weights["router"].shape[1]), np.float32)
    return {**weights, "router": router}  # all alike: top_k takes the first


def test_a_token_gets_the_gated_sum_of_its_best_experts_and_padding_nothing():
    graph, weights = module()
    x, segments = inputs()
    found, routed = jit(lambda w, x: nnx.merge(graph, w)(x, segments))(weights, x)
    np.testing.assert_allclose(found, expected(weights, x, segments), atol=1e-4)
    assert not np.asarray(found)[segments == 0].any()
    assert routed.chosen_E.sum() == J * segments.sum() and routed.tokens == segments.sum()


def test_padding_changes_nothing_whatever_is_in_it():
    graph, weights = module()
    x, segments = inputs()
    run = jit(lambda w, x: nnx.merge(graph, w)(x, segments))
    one, other = run(weights, x), run(weights, np.where(segments[..., None] > 0, x, 1e3))
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    "change", [lambda w: w, to_one_expert], ids=["spread", "all tokens on the same experts"]
)
@pytest.mark.parametrize("name", MESHES)
def test_every_mesh_gives_what_one_device_gives(name, change):
    compare(meshes.make(MESHES[name]), *module(), *inputs(), change)


def test_experts_or_rows_that_a_mesh_does_not_divide_are_computed_all_the_same():
    compare(meshes.make(Mesh(data=1, expert=4, tensor=2)), *module(experts=6), *inputs(), lambda w: w)
    compare(meshes.make(Mesh(data=2, expert=4)), *module(), *inputs(rows=3), lambda w: w)


def compare(mesh, graph, weights, x, segments, change):
    """Outputs, statistics and gradients of weights and tokens."""
    weights = change(weights)

    def loss(weights, x):
        y, routed = nnx.merge(graph, weights)(x, segments)
        return jnp.square(y).sum() + 10 * balance(routed) + z(routed), (y, routed)

    run = jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, (y, routed)), grads = run(weights, x)
    np.testing.assert_allclose(y, expected(weights, x, segments), atol=1e-4)
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec(meshes.BATCH_AXES))
        placed = jax.device_put(x, rows) if len(x) % 8 == 0 else x
        (_, on_mesh), sharded = run(weights, placed)
    for found, alone in ((on_mesh, (y, routed)), (sharded, grads)):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a, b, rtol=GRADIENT, atol=GRADIENT * float(jnp.abs(b).max()))


def test_balance_is_the_number_of_choices_where_all_are_alike_and_counts_all_layers_together():
    alike = Routed(
        chosen_E=np.full((2, E), 30.0), likely_E=np.full((2, E), 10.0), squares=np.ones(2), tokens=np.full(2, 80.0)
    )  # fmt: skip
    assert float(balance(alike)) == pytest.approx(J)
    one = Routed(
        chosen_E=np.eye(2) * 6.0, likely_E=np.eye(2) * 6.0, squares=np.array([3.0, 9.0]), tokens=np.full(2, 6.0)
    )  # fmt: skip
    assert float(balance(one)) == pytest.approx(1.0)  # each layer alone: 2
    assert float(z(one)) == pytest.approx(1.0)


def test_a_batch_of_padding_is_no_nan():
    graph, weights = module()
    x, segments = inputs()

    @jit
    def found(weights):
        y, routed = nnx.merge(graph, weights)(x, 0 * segments)
        return y, balance(routed), z(routed)

    y, uneven, large = found(weights)
    assert not np.asarray(y).any() and float(uneven) == 0.0 and float(large) == 0.0
