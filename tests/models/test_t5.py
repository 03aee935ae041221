"""Claims about T5 alone: initial scales, what config.json says of its head and MLP, refusals."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlm.convert import families
from jaxlm.convert import t5 as convert
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.t5 import T5

CONFIG = T5(
    vocab_size=257,
    hidden=60,
    encoder_layers=5,
    decoder_layers=3,
    heads=7,
    head_dim=12,
    mlp=88,
    activation="gelu_tanh",
    gate="gated",
    head="untied",
    buckets=32,
    max_distance=128,
    dropout=0.1,
    norm_epsilon=1e-6,
    init_factor=1.0,
)


def test_initial_deviations_are_those_of_mesh_tensorflow():
    params = jax.jit(build(CONFIG).init)(jax.random.key(0))
    block = params["decoder"]["blocks"]
    expected = [
        (params["tokens"]["table"][:257], 1.0),
        (params["scores"]["table"][:257], 60**-0.5),
        (block["cross_attention"]["wq"], (60 * 12) ** -0.5),
        (block["attention"]["wk"], 60**-0.5),
        (block["attention"]["wo"], (7 * 12) ** -0.5),
        (block["mlp"]["w_gate"], 60**-0.5),
        (block["mlp"]["w_out"], 88**-0.5),
    ]
    for array, deviation in expected:
        assert np.std(array) == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(
    ("projection", "activation", "gate"),
    [
        ("relu", "relu", "none"),
        ("gated-gelu", "gelu_tanh", "gated"),
        ("gated-silu", "silu", "gated"),
        ("gelu_new", "gelu_tanh", "none"),
    ],
)
def test_the_mlp_is_what_feed_forward_proj_says(projection, activation, gate):
    hf = convert.to_hf_config(CONFIG) | {"feed_forward_proj": projection}
    found = families.config_from_hf(hf)
    assert (found.activation, found.gate) == (activation, gate)
    assert convert.to_hf_config(found)["feed_forward_proj"] == projection


def test_the_head_is_what_config_and_tensors_say():
    published = convert.to_hf_config(CONFIG)
    del published["scale_decoder_outputs"]  # a key of transformers 5
    old = published | {"tie_word_embeddings": True}
    new = published | {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    head = lambda hf, *names: families.config_from_hf(hf, ["shared.weight", *names]).head
    assert head(published, "lm_head.weight") == "untied"
    assert head(old) == head(old, "lm_head.weight") == "scaled"  # files of torch hold copies of what is tied
    assert (head(new), head(new, "lm_head.weight")) == ("tied", "untied")
    with pytest.raises(UserError, match="no T5 has both"):
        families.config_from_hf(published | {"scale_decoder_outputs": True})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"buckets": 7}, ("model.buckets=7", "even")),
        ({"max_distance": 16}, ("model.max_distance=16", "16")),
        ({"head_dim": 0}, ("model.head_dim=0",)),
        ({"dropout": 1.0}, ("model.dropout=1.0",)),
    ],
)
def test_a_wrong_config_is_refused_with_its_key(change, words):
    with pytest.raises(UserError) as caught:
        dataclasses.replace(CONFIG, **change).validate("model")
    assert all(word in str(caught.value) for word in words)
