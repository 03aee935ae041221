"""Claims about BART alone: the rows of its position table, the constant in its files, refusals."""

import dataclasses

import numpy as np
import pytest

from jaxlm.convert import bart as convert
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.models.bart import Bart
from jaxlm.models.build import build

CONFIG = Bart(
    vocab_size=101,
    hidden=36,
    encoder_layers=1,
    decoder_layers=2,
    heads=4,
    mlp=56,
    max_positions=17,
    activation="gelu",
    dropout=0.1,
    attention_dropout=0.0,
    activation_dropout=0.0,
    norm_epsilon=1e-5,
    init_scale=0.02,
)


def zeros(tree):
    return {k: zeros(v) if isinstance(v, dict) else np.zeros(v.shape, np.float32) for k, v in tree.items()}


def test_position_tables_keep_the_two_rows_of_no_position():
    assert build(CONFIG).shapes["decoder"]["positions"].shape == (19, 36)


def test_a_bias_of_the_logits_is_written_as_zeros_and_refused_as_anything_else():
    tensors = families.export_params(zeros(build(CONFIG).shapes), CONFIG)
    assert tensors["final_logits_bias"].shape == (1, 101) and not tensors["final_logits_bias"].any()
    families.import_params({k: v for k, v in tensors.items() if k != "final_logits_bias"}, CONFIG)
    tensors["final_logits_bias"][0, 5] = 0.5
    with pytest.raises(UserError, match="final_logits_bias is not what it is"):
        families.import_params(tensors, CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder_layerdrop": 0.1},
        {"scale_embedding": True},
        {"normalize_before": True},
        {"decoder_ffn_dim": 55},
        {"tie_word_embeddings": False},
    ],
)
def test_other_models_of_the_kind_are_refused_by_key(change):
    hf = convert.to_hf_config(CONFIG)
    assert families.config_from_hf(hf) == CONFIG
    with pytest.raises(UserError, match=next(iter(change))):
        families.config_from_hf(hf | change)


def test_an_epsilon_that_the_format_does_not_know_is_not_exported():
    with pytest.raises(UserError, match="norm_epsilon=1e-12"):
        convert.to_hf_config(dataclasses.replace(CONFIG, norm_epsilon=1e-12))
