"""Claims about ELECTRA: the pair shares its embeddings, and comes apart and together again without loss."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlm.convert import electra, families
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.electra import Electra
from jaxlm.models.heads import Detect, Tokens

PAIR = Electra(
    vocab_size=101,
    embedding=10,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    generator_hidden=12,
    generator_layers=2,
    generator_heads=3,
    generator_mlp=20,
    max_positions=17,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.02,
)
HEADS = {"tokens": Tokens(), "replaced": Detect()}


def params_of(config):
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), build(config, HEADS).shapes)


def test_generator_and_discriminator_have_one_set_of_embeddings():
    model = build(PAIR, HEADS)
    module = model.bind(params_of(PAIR))
    assert module.generator.embeddings is module.discriminator.embeddings
    assert "embeddings" in model.shapes["discriminator"] and "embeddings" not in model.shapes["generator"]


def test_parts_are_complete_models_and_together_they_are_the_pair():
    params = params_of(PAIR)
    parts = electra.parts(PAIR, params)
    for name, (config, part) in parts.items():
        shapes = jax.tree.map(lambda x: x.shape, build(config, families.named(config, part["heads"])).shapes)
        assert jax.tree.map(lambda x: x.shape, part) == shapes, name
    config, again = electra.together(**parts)
    assert config == PAIR
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_two_models_that_are_no_pair_are_refused():
    parts = electra.parts(PAIR, params_of(PAIR))
    other = electra.parts(PAIR, jax.tree.map(lambda x: x + 1, params_of(PAIR)))
    with pytest.raises(UserError, match="embeddings of generator and discriminator differ"):
        electra.together(parts["discriminator"], other["generator"])
    short = dataclasses.replace(PAIR.generator, max_positions=11)
    with pytest.raises(UserError, match="generator does not fit into the pair: max_positions differ"):
        electra.together(parts["discriminator"], (short, parts["generator"][1]))


def test_a_pair_as_one_file_is_refused_with_the_way_out():
    with pytest.raises(UserError, match="convert the two apart"):
        families.export_params(params_of(PAIR), PAIR)


def test_a_generator_that_cannot_be_built_is_refused_by_name():
    with pytest.raises(
        UserError, match=r"config\.model \(its generator_\* fields\)\.hidden=13 does not divide"
    ):
        dataclasses.replace(PAIR, generator_hidden=13).validate("config.model")
