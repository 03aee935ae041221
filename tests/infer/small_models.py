"""Small generating models with weights far from their initial ones, for the tests beside this file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.models import build
from jaxlm.models.bart import Bart
from jaxlm.models.gpt2 import Gpt2
from jaxlm.models.llama import Llama
from jaxlm.models.mixtral import Mixtral
from jaxlm.models.rope import Llama3, Rope, Unscaled
from jaxlm.models.t5 import T5
from jaxlm.models.transformer import Transformer

VOCAB = 101
LLAMA = Llama(
    vocab_size=VOCAB,
    hidden=36,
    layers=3,
    heads=6,
    kv_heads=2,
    head_dim=10,
    mlp=56,
    activation="silu",
    max_positions=64,
    rope=Rope(base=10000.0, scaling=Unscaled()),
    norm_epsilon=1e-5,
    embeddings="untied",
    biases="none",
    qk_norm="none",
    windows=(0,),
    init_scale=0.02,
)
SCALED = Llama3(factor=8.0, low_frequency=1.0, high_frequency=4.0, original=16)
DECODERS = {
    "Llama": LLAMA,
    "Mistral, window": dataclasses.replace(LLAMA, windows=(5,)),
    "Qwen3, QK norm, windows by turns, scaled RoPE": dataclasses.replace(
        LLAMA,
        qk_norm="head",
        windows=(4, 0),
        embeddings="tied",
        rope=Rope(base=500000.0, scaling=SCALED),
    ),
    "Qwen2, biases, unrolled": dataclasses.replace(LLAMA, biases="qkv", layer_loop="unrolled"),
    "Mixtral": Mixtral(**vars(LLAMA), experts=5, experts_per_token=2, balance_loss=0.02, router_z_loss=0.0),
    "GPT-2": Gpt2(
        vocab_size=VOCAB,
        hidden=36,
        layers=3,
        heads=4,
        mlp=144,
        max_positions=64,
        embedding_dropout=0.1,
        dropout=0.1,
        attention_dropout=0.1,
        norm_epsilon=1e-5,
        activation="gelu_tanh",
        init_scale=0.02,
    ),
}
_SIDES = {
    "vocab_size": VOCAB,
    "hidden": 36,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "heads": 4,
    "mlp": 56,
    "max_positions": 40,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "norm_epsilon": 1e-5,
}
ENCODER_DECODERS = {
    "T5": T5(
        vocab_size=VOCAB,
        hidden=36,
        encoder_layers=2,
        decoder_layers=3,
        heads=4,
        head_dim=10,
        mlp=56,
        activation="relu",
        gate="none",
        head="scaled",
        buckets=8,
        max_distance=12,
        dropout=0.1,
        norm_epsilon=1e-6,
        init_factor=1.0,
    ),
    "BART": Bart(**_SIDES, activation="gelu", init_scale=0.02),
    "Transformer": Transformer(**_SIDES, activation="relu"),
}


_MADE = {}


def made(config):
    """(model, params), the same ones for equal configs."""
    if repr(config) not in _MADE:
        _MADE[repr(config)] = _made(config)
    return _MADE[repr(config)]


def _made(config):
    model, rng = build.build(config), np.random.default_rng(1)

    def drawn(path, x):
        name = path[-1].key
        values = rng.normal(1.0 if name == "scale" else 0.0, 0.25, x.shape).astype(np.float32)
        if name == "table" and len(values) > VOCAB:
            values[VOCAB:] = 0  # the embeddings' padding, as in every model of ours
        return jnp.asarray(values)

    return model, jax.tree_util.tree_map_with_path(drawn, model.shapes)
