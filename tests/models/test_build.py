"""Claims about `build`: plain dicts, pure, axes of the right rank, and the same numbers under any mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxlm.batch import Batch
from jaxlm.models import activations, parameters
from jaxlm.models.bert import Bert
from jaxlm.models.build import build

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

CONFIG = Bert(
    vocab_size=101,
    hidden=24,
    layers=3,
    heads=4,
    mlp=40,
    max_positions=17,
    types=2,
    dropout=0.2,
    attention_dropout=0.1,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.2,
    position_init="normal",
)


def batch(rows: int) -> Batch:
    rng = np.random.default_rng(0)
    length = 11
    return Batch(
        tokens_BT=rng.integers(0, 101, (rows, length), dtype=np.int32),
        segments_BT=np.tile(np.repeat(np.int32([1, 2, 0]), [4, 5, 2]), (rows, 1)),
        positions_BT=np.tile(np.int32([0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 0]), (rows, 1)),
        types_BT=np.zeros((rows, length), np.int32),
    )


def test_every_parameter_has_one_axis_name_per_dimension():
    model = build(CONFIG)
    is_axes = lambda x: isinstance(x, tuple)
    assert jax.tree.structure(model.shapes) == jax.tree.structure(model.axes, is_leaf=is_axes)
    for shape, axes in zip(
        jax.tree.leaves(model.shapes), jax.tree.leaves(model.axes, is_leaf=is_axes), strict=True
    ):
        assert len(shape.shape) == len(axes) and shape.dtype == jnp.float32
    assert model.axes["blocks"]["attention"]["wq"] == ("layers", "embed", "heads", "head_dim")
    assert model.axes["embeddings"]["tokens"]["table"] == ("vocab", "embed")


def test_axes_of_the_wrong_rank_are_refused():
    @dataclasses.dataclass
    class Wrong:
        def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> nnx.Module:
            module = nnx.Module()
            module.w = parameters.weight(rngs, (3, 5), ("embed",), 0.1)
            return module

    with pytest.raises(ValueError, match=r"w: axes \('embed',\) do not match shape \(3, 5\)"):
        build(Wrong())


def test_init_is_pure_and_gives_plain_dicts():
    model = build(CONFIG)
    init = jit(model.init)
    one, two, other = init(jax.random.key(1)), init(jax.random.key(1)), init(jax.random.key(2))
    assert type(one) is dict and type(one["blocks"]["attention"]) is dict
    assert jax.tree.all(jax.tree.map(np.array_equal, one, two))
    assert not np.array_equal(one["embeddings"]["tokens"]["table"], other["embeddings"]["tokens"]["table"])


def test_a_call_changes_nothing():
    model = build(CONFIG)
    params = jit(model.init)(jax.random.key(0))
    before = jax.tree.map(np.array, params)
    module = model.bind(params)
    jit(lambda: module.encode(batch(2), jax.random.key(1)))()
    after = nnx.to_pure_dict(nnx.state(module))
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after))


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 2, 4)], ids=str)
def test_a_mesh_changes_only_where_things_are(shape):
    """The same outputs, with dropout, on 8 devices as on one; and activations really are spread."""
    model = build(CONFIG)
    params = jit(model.init)(jax.random.key(0))
    key = jax.random.key(3)
    run = lambda params, batch: model.bind(params).encode(batch, key).x_BTD
    alone = jit(run)(params, batch(8))
    mesh = jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
        spread = jit(run)(params, jax.device_put(batch(8), rows))
    assert spread.sharding.spec[0] is not None
    np.testing.assert_allclose(alone, spread, atol=2e-5)


def test_constraints_skip_axes_that_are_missing_or_do_not_divide():
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2).abstract_mesh
    names = ("batch", "length", "heads", None)
    assert activations.spec(mesh, (8, 5, 4, 3), names) == PartitionSpec(("data",), None, ("tensor",), None)
    assert activations.spec(mesh, (6, 5, 3, 3), names) == PartitionSpec(None, None, None, None)
    x = jnp.ones((2, 3))
    assert activations.constrain(x, "batch", None) is x
