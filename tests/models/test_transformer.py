"""Claims about the Transformer alone: its positions, its initial scales, Marian models that are not it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.convert import families
from jaxlm.convert import transformer as convert
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.transformer import Transformer, sinusoids

CONFIG = Transformer(
    vocab_size=257,
    hidden=60,
    encoder_layers=5,
    decoder_layers=3,
    heads=4,
    mlp=88,
    max_positions=17,
    activation="relu",
    dropout=0.1,
    attention_dropout=0.0,
    activation_dropout=0.0,
    norm_epsilon=1e-5,
)


def test_positions_are_the_published_waves_sines_first():
    found = sinusoids(jnp.array([[0, 3, 250]]), 6)
    for place, row in zip((0, 3, 250), np.asarray(found)[0], strict=True):
        angles = [place / 10000 ** (i / 6) for i in (0, 2, 4)]
        np.testing.assert_allclose(row, [*np.sin(angles), *np.cos(angles)], atol=3e-5)


def test_initial_deviations_are_glorots():
    params = jax.jit(build(CONFIG).init)(jax.random.key(0))
    block = params["decoder"]["blocks"]
    expected = [
        (params["tokens"]["table"][:257], 60**-0.5),
        (block["cross_attention"]["wq"], 60**-0.5),
        (block["attention"]["wo"], 60**-0.5),
        (block["mlp"]["w_in"], (2 / 148) ** 0.5),
        (block["mlp"]["w_out"], (2 / 148) ** 0.5),
    ]
    for array, deviation in expected:
        assert np.std(array) == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(
    "change",
    [
        {"scale_embedding": False},
        {"share_encoder_decoder_embeddings": False},
        {"decoder_vocab_size": 99},
        {"normalize_before": True},
    ],
)
def test_other_marian_models_are_refused_by_key(change):
    hf = convert.to_hf_config(CONFIG)
    with pytest.raises(UserError, match=next(iter(change))):
        families.config_from_hf(hf | change)


def test_sinusoids_in_a_file_are_left_out():
    tensors = {
        name: np.zeros(shape, np.float32)
        for name, shape in ((name, a.shape) for name, a in families.export_params(_zeros(), CONFIG).items())
    }
    tensors["model.encoder.embed_positions.weight"] = np.ones((17, 60), np.float32)
    families.import_params(tensors, CONFIG)


def _zeros():
    return jax.tree.map(lambda a: np.zeros(a.shape, np.float32), build(CONFIG).shapes)
