"""Claims: every optimizer's state takes the shardings of its parameters, from shapes alone; a sharded update equals
the one on a single device; what stays unsharded is reported with its size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxlm.errors import UserError
from jaxlm.optim import ema, optimizers, schedules
from jaxlm.optim.horizon import Horizon
from jaxlm.partition import mesh, state
from jaxlm.partition.mesh import Mesh

AXES = {
    "tokens": {"table": ("vocab", "embed")},
    "norm": {"scale": ("embed",)},
    "blocks": {
        "wq": ("layers", "embed", "heads", "head_dim"),
        "bq": ("layers", "heads", "head_dim"),
        "w_out": ("layers", "mlp", "embed"),
    },
}
SHAPES = {
    "tokens": {"table": (14, 12)},
    "norm": {"scale": (12,)},
    "blocks": {"wq": (3, 12, 2, 5), "bq": (3, 2, 5), "w_out": (3, 10, 12)},
}
SPECS = {
    "tokens": {"table": P("tensor", "fsdp")},
    "norm": {"scale": P("fsdp")},
    "blocks": {
        "wq": P("stage", "fsdp", "tensor", None),
        "bq": P("stage", "tensor", None),
        "w_out": P("stage", "tensor", "fsdp"),
    },
}
SHARED = {"schedule": schedules.Constant(peak=0.1, warmup="0"), "weight_decay": 0.1, "clip_norm": 0.5}
MOMENTS = {"b1": 0.9, "b2": 0.99, "epsilon": 1e-6}
OPTIMIZERS = {
    "adamw": optimizers.AdamW(**SHARED, **MOMENTS),
    "bert_adam": optimizers.BertAdam(**SHARED, **MOMENTS),
    "lamb": optimizers.Lamb(**SHARED, **MOMENTS),
    "adafactor": optimizers.Adafactor(
        **SHARED,
        decay_rate=0.8,
        epsilon=1e-30,
        update_clip=1.0,
        parameter_floor=1e-3,
        momentum=0.5,
        factor_from=4,
    ),
    "sgd": optimizers.Sgd(**SHARED, momentum=0.9),
    "lion": optimizers.Lion(**SHARED, b1=0.9, b2=0.99),
    "muon": optimizers.Muon(
        **SHARED, **MOMENTS, momentum=0.9, iterations=5, update_rms=0.2, rest_schedule=SHARED["schedule"]
    ),
}


@pytest.fixture(scope="module")
def fsdp_tensor():
    return mesh.make(Mesh(data=1, fsdp=4, tensor=2))


def is_shape(x):
    return isinstance(x, tuple)


def abstract():
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), SHAPES, is_leaf=is_shape)


def values(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(size=s).astype(np.float32), SHAPES, is_leaf=is_shape)


def specs(shardings):
    return jax.tree.map(lambda s: s.spec, shardings)


def test_parameters_and_their_average_follow_the_rules(fsdp_tensor):
    assert specs(state.shardings(abstract(), AXES, fsdp_tensor)) == SPECS
    average = jax.eval_shape(ema.init, abstract())
    assert specs(state.shardings({"ema": average}, AXES, fsdp_tensor)) == {"ema": SPECS}


def test_moments_of_adam_take_the_shardings_of_their_parameters(fsdp_tensor):
    optimizer = OPTIMIZERS["adamw"].make(Horizon(((9, 1),)), AXES)
    found = state.shardings(jax.eval_shape(optimizer.init, abstract()), AXES, fsdp_tensor)
    adam = next(s for s in found if isinstance(s, optax.ScaleByAdamState))
    assert specs(adam.mu) == specs(adam.nu) == SPECS
    assert adam.count.spec == P()


def test_factored_moments_are_split_where_their_parameter_is(fsdp_tensor):
    optimizer = OPTIMIZERS["adafactor"].make(Horizon(((9, 1),)), AXES)
    found = state.shardings(jax.eval_shape(optimizer.init, abstract()), AXES, fsdp_tensor)
    moments = next(s for s in found if hasattr(s, "rows"))
    assert moments.rows["blocks"]["wq"].spec == P("stage", "fsdp", None, None)
    assert moments.cols["blocks"]["wq"].spec == P("stage", None, "tensor", None)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_large_state_is_sharded_and_updates_as_on_one_device(name, fsdp_tensor):
    optimizer = OPTIMIZERS[name].make(Horizon(((9, 1),)), AXES)

    def update(params, opt_state, grads):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return jax.tree.map(jnp.add, params, updates), opt_state

    def three(params, init, update, put):
        opt_state = init(params)
        for step in range(3):
            params, opt_state = update(params, opt_state, put(values(step + 1)))
        return params, opt_state

    param_sh = state.shardings(abstract(), AXES, fsdp_tensor)
    opt_sh = state.shardings(jax.eval_shape(optimizer.init, abstract()), AXES, fsdp_tensor)
    put = lambda tree: jax.device_put(tree, param_sh)
    sharded, opt_state = three(
        put(values(0)),
        jax.jit(optimizer.init, out_shardings=opt_sh),
        jax.jit(update, out_shardings=(param_sh, opt_sh)),
        put,
    )
    alone, _ = three(values(0), optimizer.init, jax.jit(update), lambda tree: tree)
    for a, b in zip(jax.tree.leaves(sharded), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
    for x in jax.tree.leaves(opt_state):
        # Every array as large as a vector of the model is split at least in two.
        assert x.size < 12 or x.addressable_shards[0].data.size <= x.size // 2


def test_whole_training_state_in_one_call(fsdp_tensor):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class State:
        step: jax.Array
        params: dict
        opt_state: tuple

    optimizer = OPTIMIZERS["lamb"].make(Horizon(((9, 1),)), AXES)
    make = lambda p: State(jnp.zeros((), jnp.int32), p, optimizer.init(p))
    whole = jax.eval_shape(make, abstract())
    found = state.shardings(whole, AXES, fsdp_tensor)
    assert found.step.spec == P() and specs(found.params) == SPECS
    attached = state.with_shardings(whole, found)
    assert attached.params["tokens"]["table"].sharding.spec == P("tensor", "fsdp")
    # The optimizer state of any other library is placed by path and shape as well.
    foreign = jax.eval_shape(optax.adafactor(0.1, min_dim_size_to_factor=2).init, abstract())
    assert all(s.mesh == fsdp_tensor for s in jax.tree.leaves(state.shardings(foreign, AXES, fsdp_tensor)))


def test_batch_is_split_over_data_fsdp_expert_and_stage():
    both = mesh.make(Mesh(data=2, fsdp=2, tensor=2))
    assert state.batch_sharding(both).spec == P(("data", "fsdp", "expert", "stage"))
    assert state.batch_sharding(both).shard_shape((12, 7)) == (3, 7)
    experts = mesh.make(Mesh(data=1, fsdp=2, expert=2, tensor=2))
    assert state.batch_sharding(experts).shard_shape((12, 7)) == (3, 7)
    assert state.replicated(both).shard_shape((12, 7)) == (12, 7)


def test_what_stayed_whole_is_reported_with_size_and_reason(fsdp_tensor):
    params = {
        "table": jax.ShapeDtypeStruct((30_523, 1024), jnp.float32),
        "wq": jax.ShapeDtypeStruct((1024, 16, 64), jnp.float32),
        "odd": jax.ShapeDtypeStruct((1023, 1025), jnp.float32),
        "free": jax.ShapeDtypeStruct((1024, 512), jnp.float32),
        "tiny": jax.ShapeDtypeStruct((7,), jnp.float32),
    }
    axes = {
        "table": ("vocab", "embed"),
        "wq": ("embed", "heads", "head_dim"),
        "odd": ("embed", "mlp"),
        "free": ("positions", None),
        "tiny": ("embed",),
    }
    found = state.unsharded(params, axes, fsdp_tensor)
    assert [u.path for u in found] == ["table", "odd", "free"]
    assert found[0].bytes == 30_523 * 256 * 4
    text = state.report(params, axes, fsdp_tensor)
    assert "vocab 30523 is not divisible by tensor 2" in text
    assert "embed 1023 is not divisible by fsdp 4; mlp 1025 is not divisible by tensor 2" in text
    assert "no rule splits it" in text and "29.8 MiB" in text and "wq" not in text


def test_nothing_is_reported_on_one_device_or_with_data_alone():
    for made in (mesh.make(Mesh(), jax.devices()[:1]), mesh.make(Mesh())):
        assert state.unsharded(abstract(), AXES, made, at_least=0) == []


def test_a_model_without_experts_is_not_blamed_for_the_axis_that_splits_them():
    assert state.unsharded(abstract(), AXES, mesh.make(Mesh(data=1, expert=8)), at_least=0) == []


def test_error_names_the_parameter(fsdp_tensor):
    with pytest.raises(UserError, match='blocks/w: logical axis "width" has no rule'):
        state.shardings(
            {"blocks": {"w": jnp.zeros((3, 4))}}, {"blocks": {"w": ("embed", "width")}}, fsdp_tensor
        )
    with pytest.raises(ValueError, match=r"w: axes .* do not fit shape"):
        state.shardings({"w": jnp.zeros((3, 4))}, {"w": ("embed",)}, fsdp_tensor)


def test_bert_is_sharded_but_for_its_small_parts(fsdp_tensor):
    """The real model's axes all have rules, without collisions."""
    from jaxlm.models import build
    from jaxlm.models.bert import Bert

    config = Bert(
        vocab_size=131,
        hidden=16,
        layers=2,
        heads=2,
        mlp=24,
        max_positions=17,
        types=2,
        dropout=0.0,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        activation="gelu",
        init_scale=0.02,
        position_init="normal",
    )
    model = build.build(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    found = state.shardings(params, model.axes, fsdp_tensor)
    assert found["blocks"]["attention"]["wq"].spec == P("stage", "fsdp", "tensor", None)
    assert state.unsharded(params, model.axes, fsdp_tensor, at_least=200) == []
