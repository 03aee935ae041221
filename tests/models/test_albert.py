"""Claims about ALBERT: one set of weights for all layers, and a table narrower than the blocks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.models import cost
from jaxlm.models.albert import Albert
from jaxlm.models.build import build

CONFIG = Albert(
    vocab_size=101,
    embedding=10,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu_tanh",
    init_scale=0.2,
)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
BATCH = Batch(
    tokens_BT=np.random.default_rng(0).integers(1, 101, (2, 11)).astype(np.int32),
    segments_BT=np.ones((2, 11), np.int32),
    positions_BT=np.tile(np.arange(11, dtype=np.int32), (2, 1)),
    types_BT=np.zeros((2, 11), np.int32),
)


def params_of(model):
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), jnp.float32), model.shapes)


def test_more_layers_have_the_same_parameters_and_more_work():
    deep = dataclasses.replace(CONFIG, layers=7)
    count = lambda config: cost.count_parameters(build(config).shapes)
    assert count(CONFIG) == count(deep)
    flops = lambda config: cost.training_flops(config, lambda m, b: m.encode(b, None).x_BTD.sum(), BATCH)
    project = 3 * 2 * 22 * 10 * 36
    assert (flops(deep) - project) * 3 == (flops(CONFIG) - project) * 7


@pytest.mark.parametrize("remat", ["none", "dots"])
def test_loops_and_remat_change_neither_loss_nor_gradients_nor_dropout(remat):
    config = dataclasses.replace(CONFIG, layers=2, dropout=0.1)
    model, other = build(config), build(dataclasses.replace(config, layer_loop="scan", remat=remat))
    params, key = params_of(model), jax.random.key(7)
    run = lambda m: jit(jax.value_and_grad(lambda p: jnp.square(m.bind(p).encode(BATCH, key).x_BTD).sum()))(
        params
    )
    for a, b in zip(jax.tree.leaves(run(model)), jax.tree.leaves(run(other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("key", ["num_hidden_groups", "inner_group_num"])
def test_layers_that_do_not_share_their_weights_are_refused_by_name(key):
    hf = families.to_hf_config(CONFIG) | {key: 2}
    with pytest.raises(UserError, match=f"{key}=2 is not supported; allowed: 1"):
        families.config_from_hf(hf)
